"""The front ends, one file each. Importing this package registers them all."""

from specenhance.frontends.attention import ConvBlockAttention, CoordAttention, EfficientChannelAttention
from specenhance.frontends.chain import Chain
from specenhance.frontends.clipnorm import BinNorm, ClipNorm
from specenhance.frontends.coord import Coord
from specenhance.frontends.delta import Delta
from specenhance.frontends.freqnorm import FreqNorm
from specenhance.frontends.identity import Identity
from specenhance.frontends.pcen import PCEN
from specenhance.frontends.rfn import RelaxedNorm
from specenhance.frontends.tfa import TFA
from specenhance.frontends.tfe import TFE
from specenhance.frontends.tfes import StandardisedTFE

__all__ = [
    "PCEN",
    "TFA",
    "TFE",
    "BinNorm",
    "Chain",
    "ClipNorm",
    "ConvBlockAttention",
    "Coord",
    "CoordAttention",
    "Delta",
    "EfficientChannelAttention",
    "FreqNorm",
    "Identity",
    "RelaxedNorm",
    "StandardisedTFE",
]
