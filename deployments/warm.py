"""What every run needs, imported once by the process that runs are forked from, so that a run starts in a moment. Nothing else is run here.

The fork server imports this module and forks a process for each run. Forking is safe where no thread has been started: importing starts
none but those of memory allocators, which know of forks.
"""

import sklearn.compose
import sklearn.ensemble
import sklearn.linear_model
import sklearn.pipeline  # noqa: F401

import flows.labels
import flows.scoring
import flows.training  # noqa: F401
from deployments import children, registration  # noqa: F401
from tasks.stores import models

models.preload()
