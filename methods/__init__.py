"""What is compared: ways of weighting tasks, architectures, and the methods that pair them, as published."""

from collections.abc import Mapping

from methods.architectures.hps import HPS
from methods.architectures.normal import Normal
from methods.contract import ArchitectureInfo, MethodInfo, WeightingInfo
from methods.weightings.cagrad import CAGrad
from methods.weightings.ew import EW
from methods.weightings.gradnorm import GradNorm
from methods.weightings.imtl import IMTL
from methods.weightings.mgda import MGDA
from methods.weightings.nash_mtl import NashMTL
from methods.weightings.pcgrad import PCGrad
from methods.weightings.uw import UW

WEIGHTINGS: Mapping[str, WeightingInfo] = {
    "ew": WeightingInfo("EW", EW, "Equal weighting", "the sum of the losses instead of their mean"),
    "uw": WeightingInfo(
        "UW",
        UW,
        "Kendall, Gal, Cipolla: Multi-task learning using uncertainty to weigh losses (CVPR 2018)",
        "the regression form serves every task",
    ),
    "gradnorm": WeightingInfo(
        "GradNorm",
        GradNorm,
        "Chen, Badrinarayanan, Lee, Rabinovich: GradNorm (ICML 2018)",
        "weights are m·softmax(v) instead of rescaled; norms over all shared parameters instead of the last layer",
    ),
    "mgda": WeightingInfo(
        "MGDA",
        MGDA,
        "Sener, Koltun: Multi-task learning as multi-objective optimization (NeurIPS 2018)",
        "solved exactly instead of by Frank-Wolfe; gradients of all shared parameters instead of the upper bound",
    ),
    "pcgrad": WeightingInfo(
        "PCGrad", PCGrad, "Yu, Kumar, Gupta, Levine, Hausman, Finn: Gradient surgery (NeurIPS 2020)"
    ),
    "imtl": WeightingInfo(
        "IMTL",
        IMTL,
        "Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards impartial multi-task learning (ICLR 2021)",
    ),
    "cagrad": WeightingInfo(
        "CAGrad",
        CAGrad,
        "Liu, Liu, Jin, Stone, Liu: Conflict-averse gradient descent (NeurIPS 2021)",
        "solved exactly instead of by SLSQP",
    ),
    "nash_mtl": WeightingInfo(
        "Nash-MTL",
        NashMTL,
        "Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-task learning as a bargaining game "
        "(ICML 2022)",
        "solved exactly instead of by the convex-concave procedure",
    ),
}

ARCHITECTURES: Mapping[str, ArchitectureInfo] = {
    "hps": ArchitectureInfo("HPS", HPS, "Hard parameter sharing: Caruana (1997)"),
    "normal": ArchitectureInfo(
        "NORMAL",
        Normal,
        "Ye, Wang, Zhang, Tsang: Multi-task learning via time-aware neural ODE (IJCAI 2023)",
        "backpropagation through the solver's steps instead of the adjoint equation; step size, ξ, η and first "
        "positions are not in the paper",
    ),
}

# In the order of the paper's tables.
METHODS: Mapping[str, MethodInfo] = {
    "ew": MethodInfo("EW", "hps", "ew"),
    "uw": MethodInfo("UW", "hps", "uw"),
    "gradnorm": MethodInfo("GradNorm", "hps", "gradnorm"),
    "mgda": MethodInfo("MGDA", "hps", "mgda"),
    "pcgrad": MethodInfo("PCGrad", "hps", "pcgrad"),
    "imtl": MethodInfo("IMTL", "hps", "imtl"),
    "cagrad": MethodInfo("CAGrad", "hps", "cagrad"),
    "nash_mtl": MethodInfo("Nash-MTL", "hps", "nash_mtl"),
    "normal": MethodInfo("NORMAL", "normal", "ew"),
}
