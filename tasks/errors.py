"""Everything Ratchet raises on purpose.

RatchetError
├── UserError                 the caller can put it right: exit code 2
│   ├── UnknownPipeline       no pipeline file of that name
│   ├── BrokenPipeline        the pipeline's file does not import or does not describe a pipeline
│   ├── SourceUnavailable     the source does not exist or may not be read
│   ├── CycleInProgress       another cycle of this pipeline holds the lease
│   └── BadSetting            an environment variable has a value that cannot be used
├── ArrivalError              this one arrival cannot be used; the cycle goes on without it
│   ├── Unreadable            the file cannot be parsed: it is quarantined whole
│   └── Changed               the bytes are no longer those that were observed: it stays pending
└── Breakdown              Ratchet or what it stands on failed: exit code 1
    ├── StackError            an embedded server did not start, answer or stop
    ├── LedgerError           the ledger refused a change (another schema version, a moved champion)
    ├── LeaseLost             the cycle's lease was taken over: nothing more may be committed
    ├── Unreachable           a server did not answer; what it was to be told is told later
    ├── ModelRejected         a model's bytes or types are not those the ledger recorded
    └── DiskFull              no space left; what was committed before stays valid
"""


class RatchetError(Exception):
    """Say what was found, what was expected and what to do about it."""


class UserError(RatchetError):
    """The caller can put it right."""


class UnknownPipeline(UserError):
    """No pipeline file of that name is known."""


class BrokenPipeline(UserError):
    """The pipeline's file does not import or does not describe a pipeline."""


class SourceUnavailable(UserError):
    """The source does not exist or may not be read."""


class CycleInProgress(UserError):
    """Another cycle of this pipeline holds the lease."""


class BadSetting(UserError):
    """An environment variable has a value that cannot be used."""


class ArrivalError(RatchetError):
    """This one arrival cannot be used; the cycle goes on without it."""


class Unreadable(ArrivalError):
    """The file cannot be parsed: it is quarantined whole."""


class Changed(ArrivalError):
    """The bytes are no longer those that were observed: the arrival stays pending."""


class Breakdown(RatchetError):
    """Ratchet, or what it stands on, failed."""


class StackError(Breakdown):
    """An embedded server did not start, answer or stop."""


class LedgerError(Breakdown):
    """The ledger refused a change."""


class LeaseLost(Breakdown):
    """The cycle's lease was taken over: nothing more may be committed."""


class Unreachable(Breakdown):
    """A server did not answer; what it was to be told is told later."""


class ModelRejected(Breakdown):
    """A model's bytes or types are not those the ledger recorded."""


class DiskFull(Breakdown):
    """No space is left; what was committed before stays valid."""
