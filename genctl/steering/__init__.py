"""Steering: hooks that change the law of the next token, and how they are bound (docs/steering.md).

from genctl.steering import StringBias, Temperature, guidance
lm.generate(prompt, rule, steering=[StringBias({"maybe": -2.0}), Temperature(0.8)], binding="target")
"""

from genctl.steering.base import Auxiliary, Hook, Slot, Stack, Step
from genctl.steering.basic import MinP, Temperature, TopK, TopP, TypicalP
from genctl.steering.bias import StringBias, TokenBias
from genctl.steering.combine import (
    Forget,
    LogLinear,
    Term,
    context_aware,
    contrastive,
    dexperts,
    guidance,
    proxy,
)
from genctl.steering.entropy import AdaptiveTemperature
from genctl.steering.forcing import BudgetForcing
from genctl.steering.layers import LayerMix
from genctl.steering.model import Steered
from genctl.steering.observers import Confidence, Divergence, branching_factor, observe, shift
from genctl.steering.penalties import FrequencyPenalty, NoRepeat, PresencePenalty, RepetitionPenalty
from genctl.steering.routing import ByEntropy, Routed
from genctl.steering.schedules import ConstantBias, CyclicReflex, WindowBias

__all__ = [
    "AdaptiveTemperature",
    "Auxiliary",
    "BudgetForcing",
    "ByEntropy",
    "Confidence",
    "ConstantBias",
    "CyclicReflex",
    "Divergence",
    "Forget",
    "FrequencyPenalty",
    "Hook",
    "LayerMix",
    "LogLinear",
    "MinP",
    "NoRepeat",
    "PresencePenalty",
    "RepetitionPenalty",
    "Routed",
    "Slot",
    "Stack",
    "Steered",
    "Step",
    "StringBias",
    "Temperature",
    "Term",
    "TokenBias",
    "TopK",
    "TopP",
    "TypicalP",
    "WindowBias",
    "branching_factor",
    "context_aware",
    "contrastive",
    "dexperts",
    "guidance",
    "observe",
    "proxy",
    "shift",
]
