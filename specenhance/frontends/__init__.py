"""The front ends, one file each. Importing this package registers them all."""

from specenhance.frontends.identity import Identity
from specenhance.frontends.tfa import TFA
from specenhance.frontends.tfe import TFE

__all__ = ["TFA", "TFE", "Identity"]
