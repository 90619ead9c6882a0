"""Serve a pipeline's champion: `python -m deployments.online NAME`, as `ratchet serve` and `ratchet up` start it."""

import sys

from deployments.online.serve import main

if __name__ == "__main__":
    main(sys.argv[1:])
