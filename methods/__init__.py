"""What is compared: task weightings, architectures, and the published methods, which are pairs of them."""

from methods.architectures.extra_layers import ExtraLayers
from methods.architectures.hps import HPS
from methods.architectures.normal import Normal
from methods.architectures.single_task import STL
from methods.contract import ArchitectureInfo, Knob, MethodInfo, WeightingInfo
from methods.weightings.aligned_mtl import AlignedMTL
from methods.weightings.cagrad import CAGrad
from methods.weightings.config import ConFIG
from methods.weightings.conicgrad import ConicGrad
from methods.weightings.db_mtl import DBMTL
from methods.weightings.dwa import DWA
from methods.weightings.epo import EPO
from methods.weightings.ew import EW
from methods.weightings.excess_mtl import ExcessMTL
from methods.weightings.fairgrad import FairGrad
from methods.weightings.famo import FAMO
from methods.weightings.fixed import Fixed
from methods.weightings.frozen import Frozen
from methods.weightings.gls import GLS
from methods.weightings.go4align import GO4Align
from methods.weightings.graddrop import GradDrop
from methods.weightings.gradnorm import GradNorm
from methods.weightings.gradvac import GradVac
from methods.weightings.igb import IGB
from methods.weightings.imtl import IMTL
from methods.weightings.ldc_mtl import LDCMTL
from methods.weightings.log_loss import LogLoss
from methods.weightings.mgda import MGDA
from methods.weightings.moco import MoCo
from methods.weightings.modo import MoDo
from methods.weightings.nash_mtl import NashMTL
from methods.weightings.pcgrad import PCGrad
from methods.weightings.rlw import RLW
from methods.weightings.sdmgrad import SDMGrad
from methods.weightings.stch import STCH
from methods.weightings.upgrad import UPGrad
from methods.weightings.uw import UW
from methods.weightings.uw_so import UWSO

# Ranges of knobs are those that papers and released code search or mention, widened to about a decade on either side of
# the default where they name a single value.
_RATE = Knob("weighting.lr", 2.5e-3, 0.25, log=True)  # of learned weights, around the 0.025 that they share
_CLIP = Knob("weighting.max_norm", 0.1, 10.0, log=True)

WEIGHTINGS: dict[str, WeightingInfo] = {
    "ew": WeightingInfo("EW", EW, "Equal weighting", "the sum of the losses instead of their mean", constant=True),
    "uw": WeightingInfo(
        "UW",
        UW,
        "Kendall, Gal, Cipolla: Multi-task learning using uncertainty to weigh losses (CVPR 2018)",
        "the regression form is used for every task; the learning rate of the variances is not in the paper",
        knobs=(_RATE,),
    ),
    "gradnorm": WeightingInfo(
        "GradNorm",
        GradNorm,
        "Chen, Badrinarayanan, Lee, Rabinovich: GradNorm (ICML 2018)",
        "weights are m·softmax(v) instead of rescaled; norms over all shared parameters instead of the last layer",
        knobs=(Knob("weighting.alpha", 0.1, 3.0, log=True), _RATE),
    ),
    "mgda": WeightingInfo(
        "MGDA",
        MGDA,
        "Sener, Koltun: Multi-task learning as multi-objective optimization (NeurIPS 2018)",
        "as released: gradients are normalised for the solver only, and its weights apply to all losses, heads "
        "included; solved exactly instead of by Frank-Wolfe; gradients of all shared parameters instead of the upper "
        "bound",
        version=2,
        knobs=(Knob("weighting.normalisation", choices=("auto", "none", "l2", "loss")),),
    ),
    "pcgrad": WeightingInfo(
        "PCGrad", PCGrad, "Yu, Kumar, Gupta, Levine, Hausman, Finn: Gradient surgery (NeurIPS 2020)"
    ),
    "imtl": WeightingInfo(
        "IMTL",
        IMTL,
        "Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang: Towards impartial multi-task learning (ICLR 2021)",
        "log scales have their own Adam, at 0.025, instead of the network's optimizer",
        version=2,
        knobs=(_RATE,),
    ),
    "cagrad": WeightingInfo(
        "CAGrad",
        CAGrad,
        "Liu, Liu, Jin, Stone, Liu: Conflict-averse gradient descent (NeurIPS 2021)",
        "as released: times m/(1 + c²); solved exactly instead of by SLSQP",
        version=2,
        knobs=(Knob("weighting.c", 0.1, 0.9),),
    ),
    "nash_mtl": WeightingInfo(
        "Nash-MTL",
        NashMTL,
        "Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-task learning as a bargaining game "
        "(ICML 2022)",
        "as released: the shared gradient is clipped to norm 1; solved exactly instead of by the convex-concave "
        "procedure",
        version=2,
        knobs=(_CLIP,),
    ),
    "fixed": WeightingInfo(
        "Fixed",
        Fixed,
        "Fixed weights, given by the user",
        constant=True,
        knobs=(Knob("weighting.weights", simplex=True),),
    ),
    "dwa": WeightingInfo(
        "DWA",
        DWA,
        "Liu, Johns, Davison: End-to-end multi-task learning with attention (CVPR 2019)",
        knobs=(Knob("weighting.temperature", 0.5, 8.0, log=True),),
    ),
    "rlw": WeightingInfo(
        "RLW",
        RLW,
        "Lin, Ye, Zhang, Tsang: Reasonable effectiveness of random weighting (TMLR 2022)",
        knobs=(Knob("weighting.distribution", choices=("normal", "uniform", "dirichlet", "bernoulli", "one_hot")),),
    ),
    "gls": WeightingInfo(
        "GLS",
        GLS,
        "Chennupati, Sistu, Yogamani, Rawashdeh: MultiNet++, multi-stream feature aggregation and geometric loss "
        "strategy (CVPR Workshops 2019)",
    ),
    "log_loss": WeightingInfo(
        "SI",
        LogLoss,
        "Scale-invariant baseline of Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik, Fetaya: Multi-task learning "
        "as a bargaining game (ICML 2022)",
    ),
    "gradvac": WeightingInfo(
        "GradVac",
        GradVac,
        "Wang, Tsvetkov, Firat, Cao: Gradient vaccine (ICLR 2021)",
        "one cosine per pair of tasks for all shared parameters instead of one for each layer",
        knobs=(Knob("weighting.beta", 1e-3, 0.5, log=True),),
    ),
    "aligned_mtl": WeightingInfo(
        "Aligned-MTL",
        AlignedMTL,
        "Senushkin, Patakin, Kuznetsov, Konushin: Independent component alignment for multi-task learning (CVPR 2023)",
        knobs=(Knob("weighting.scale", choices=("min", "median", "rmse")),),
    ),
    "famo": WeightingInfo(
        "FAMO",
        FAMO,
        "Liu, Feng, Stone, Liu: FAMO, fast adaptive multitask optimization (NeurIPS 2023)",
        "as released: Adam on the logits instead of plain gradient steps",
        version=2,
        knobs=(_RATE, Knob("weighting.gamma", 1e-4, 1e-2, log=True)),
    ),
    "fairgrad": WeightingInfo(
        "FairGrad",
        FairGrad,
        "Ban, Ji: Fair resource allocation in multi-task learning (ICML 2024)",
        "as released: times m, then clipped to norm 1, and heads are plain; solved exactly instead of by nonlinear "
        "least squares",
        version=2,
        knobs=(Knob("weighting.alpha", 0.5, 10.0, log=True), _CLIP),
    ),
    "upgrad": WeightingInfo(
        "UPGrad",
        UPGrad,
        "Quinton, Rey: Jacobian descent for multi-objective optimization (2024)",
        "solved exactly; the released code regularises the Gramian and doesn't project short gradients",
        version=2,
    ),
    "stch": WeightingInfo(
        "STCH",
        STCH,
        "Lin, Zhang, Yang, Liu, Wang, Zhang: Smooth Tchebycheff scalarization for multi-objective optimization "
        "(ICML 2024)",
        "the released objective on log losses; variant=paper is the published one",
        version=2,
        knobs=(Knob("weighting.mu", 0.1, 10.0, log=True),),
    ),
    "graddrop": WeightingInfo(
        "GradDrop",
        GradDrop,
        "Chen, Ngiam, Huang, Luong, Kretzschmar, Chai, Anguelov: Just pick a sign (NeurIPS 2020)",
        "masks on the gradients of the shared parameters instead of those of the representation; scaled to the norm of "
        "their sum, as released (not with variant=paper)",
        version=2,
        sets_gradient=True,
        knobs=(Knob("weighting.leak", 0.0, 0.9),),
    ),
    "db_mtl": WeightingInfo(
        "DB-MTL",
        DBMTL,
        "Lin, Jiang, Ye, Zhang, Chen, Chen, Liu, Kwok: Dual-balancing for multi-task learning (2023)",
        version=2,
        sets_gradient=True,
        knobs=(Knob("weighting.beta", 0.1, 0.9), Knob("weighting.beta_sigma", choices=(0.0, 0.5))),
    ),
    "excess_mtl": WeightingInfo(
        "ExcessMTL",
        ExcessMTL,
        "He, Zhou, Zhang, Yun, Xu, Zeng, Chilimbi, Zhao: Robust multi-task learning with excess risks (ICML 2024)",
        "weights sum to m instead of 1; risks relative to the first step instead of the first three epochs",
        version=2,
        knobs=(Knob("weighting.step_size", 1e-3, 1.0, log=True),),
    ),
    "moco": WeightingInfo(
        "MoCo",
        MoCo,
        "Fernando, Shen, Liu, Chaudhury, Murugesan, Chen: Mitigating gradient bias in multi-objective learning "
        "(ICLR 2023)",
        "as released: gradients scaled to their losses, softmax instead of projection, m times the update; "
        "variant=paper is the published procedure, without projection of tracked gradients onto a ball",
        version=2,
        sets_gradient=True,
        knobs=(Knob("weighting.beta", 0.5, 0.99), Knob("weighting.gamma", 0.01, 10.0, log=True)),
    ),
    "modo": WeightingInfo(
        "MoDo",
        MoDo,
        "Chen, Fernando, Ying, Chen: Three-way trade-off in multi-objective learning (NeurIPS 2023)",
        "the mean of the gradients of both batches instead of their sum",
        knobs=(Knob("weighting.gamma", 1e-4, 0.1, log=True), Knob("weighting.rho", 1e-3, 1.0, log=True)),
    ),
    "sdmgrad": WeightingInfo(
        "SDMGrad",
        SDMGrad,
        "Xiao, Ban, Ji: Direction-oriented multi-objective learning (NeurIPS 2023)",
        "m times the published direction, as in the released code, without its clipping to norm 1",
        knobs=(Knob("weighting.pull", 0.1, 10.0, log=True), Knob("weighting.lr", 1.0, 50.0, log=True)),
    ),
    "go4align": WeightingInfo(
        "GO4Align",
        GO4Align,
        "Shen, Wang, Xiao, Van Noord, Worring: GO4Align, group optimization for multi-task alignment (NeurIPS 2024)",
        "k-means solved exactly instead of from random starts; two groups instead of the released script's one",
        knobs=(Knob("weighting.groups", choices=(2, 3, 4)), Knob("weighting.step_size", 1e-5, 0.1, log=True)),
    ),
    "igb": WeightingInfo(
        "IGBv1",
        IGB,
        "Dai, Fei, Lu: Improvable gap balancing for multi-task learning (UAI 2023)",
        knobs=(Knob("weighting.base_epoch", choices=(1, 2, 4)),),
    ),
    "uw_so": WeightingInfo(
        "UW-SO",
        UWSO,
        "Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler: Analytical uncertainty-based loss weighting in "
        "multi-task learning (GCPR 2024)",
        knobs=(Knob("weighting.temperature", 0.5, 100.0, log=True),),
    ),
    "ldc_mtl": WeightingInfo(
        "LDC-MTL",
        LDCMTL,
        "Xiao, Dong, Zou, Ji: LDC-MTL, balancing multi-task learning through scalable loss discrepancy control (2025)",
        "weights are free numbers, as released for CelebA, instead of a layer on features, as released for NYUv2",
        knobs=(Knob("weighting.penalty", 1e-3, 0.1, log=True), Knob("weighting.lr", 1e-4, 1e-2, log=True)),
    ),
    "config": WeightingInfo(
        "ConFIG",
        ConFIG,
        "Liu, Chu, Thuerey: ConFIG, towards conflict-free training of physics informed neural networks (ICLR 2025)",
    ),
    "conicgrad": WeightingInfo(
        "ConicGrad",
        ConicGrad,
        "Hassanpour, Janjua, Zhang, Lavasani, Zhang, Zhou, Gao: Fantastic multi-task gradient updates and how to find "
        "them in a cone (2025)",
        "solved exactly instead of by a step per iteration; length and default of c are ours",
        knobs=(Knob("weighting.c", 0.1, 0.9),),
    ),
    "epo": WeightingInfo(
        "EPO",
        EPO,
        "Mahapatra, Rajan: Multi-task learning with user preferences (ICML 2020)",
        "gradients of the shared parameters instead of all parameters",
        knobs=(Knob("weighting.preference", simplex=True),),
    ),
    "frozen": WeightingInfo(
        "Frozen",
        Frozen,
        "A control: the mean weights of another run as constants",
        constant=True,
    ),
}

ARCHITECTURES: dict[str, ArchitectureInfo] = {
    "hps": ArchitectureInfo("HPS", HPS, "Hard parameter sharing: Caruana (1997)"),
    "normal": ArchitectureInfo(
        "NORMAL",
        Normal,
        "Ye, Wang, Zhang, Tsang: Multi-task learning via time-aware neural ODE (IJCAI 2023)",
        "backpropagation through the solver's steps instead of the adjoint equation; step size, ξ, η and "
        "initial positions are not in the paper",
        knobs=(
            Knob("arch.eta_ratio", 1.0, 1000.0, log=True),
            Knob("arch.step_size", 0.1, 1.0, log=True),
            Knob("arch.xi", 0.01, 1.0, log=True),
        ),
    ),
    "hps_extra": ArchitectureInfo(
        "HPS with extra layers",
        ExtraLayers,
        "Control of Ye, Wang, Zhang, Tsang: Multi-task learning via time-aware neural ODE (IJCAI 2023)",
        "the paper does not say how its extra layers are made",
        knobs=(Knob("arch.place", choices=("shared", "residual", "specific")),),
    ),
    "stl": ArchitectureInfo("STL", STL, "Single-task learning: one network for each task"),
}

# In the order of the paper's tables.
METHODS: dict[str, MethodInfo] = {
    "ew": MethodInfo("EW", "hps", "ew"),
    "uw": MethodInfo("UW", "hps", "uw"),
    "gradnorm": MethodInfo("GradNorm", "hps", "gradnorm"),
    "mgda": MethodInfo("MGDA", "hps", "mgda"),
    "pcgrad": MethodInfo("PCGrad", "hps", "pcgrad"),
    "imtl": MethodInfo("IMTL", "hps", "imtl"),
    "cagrad": MethodInfo("CAGrad", "hps", "cagrad"),
    "nash_mtl": MethodInfo("Nash-MTL", "hps", "nash_mtl"),
    "normal": MethodInfo("NORMAL", "normal", "ew"),
    "fixed": MethodInfo("Fixed", "hps", "fixed"),
    "dwa": MethodInfo("DWA", "hps", "dwa"),
    "rlw": MethodInfo("RLW", "hps", "rlw"),
    "gls": MethodInfo("GLS", "hps", "gls"),
    "log_loss": MethodInfo("SI", "hps", "log_loss"),
    "gradvac": MethodInfo("GradVac", "hps", "gradvac"),
    "aligned_mtl": MethodInfo("Aligned-MTL", "hps", "aligned_mtl"),
    "famo": MethodInfo("FAMO", "hps", "famo"),
    "fairgrad": MethodInfo("FairGrad", "hps", "fairgrad"),
    "upgrad": MethodInfo("UPGrad", "hps", "upgrad"),
    "stch": MethodInfo("STCH", "hps", "stch"),
    "graddrop": MethodInfo("GradDrop", "hps", "graddrop"),
    "db_mtl": MethodInfo("DB-MTL", "hps", "db_mtl"),
    "excess_mtl": MethodInfo("ExcessMTL", "hps", "excess_mtl"),
    "moco": MethodInfo("MoCo", "hps", "moco"),
    "modo": MethodInfo("MoDo", "hps", "modo"),
    "sdmgrad": MethodInfo("SDMGrad", "hps", "sdmgrad"),
    "go4align": MethodInfo("GO4Align", "hps", "go4align"),
    "igb": MethodInfo("IGBv1", "hps", "igb"),
    "uw_so": MethodInfo("UW-SO", "hps", "uw_so"),
    "ldc_mtl": MethodInfo("LDC-MTL", "hps", "ldc_mtl"),
    "config": MethodInfo("ConFIG", "hps", "config"),
    "conicgrad": MethodInfo("ConicGrad", "hps", "conicgrad"),
    "epo": MethodInfo("EPO", "hps", "epo"),
    "stl": MethodInfo("STL", "stl", "ew"),
    "frozen": MethodInfo("Frozen", "hps", "frozen"),
}
