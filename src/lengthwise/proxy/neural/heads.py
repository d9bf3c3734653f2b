"""What stands on an encoder, and how its outputs become one score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from lengthwise.proxy.neural.aims import Aim

HIDDEN = 128
DROPOUT = 0.1


class MeanHead(nn.Module):
    """The neural tier: the mean of the tokens, one hidden layer."""

    def __init__(self, encoder: Any, *, outputs: int, models: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(encoder.config.hidden_size + models, HIDDEN),
            nn.GELU(),
            nn.Linear(HIDDEN, outputs),
        )

    def forward(self, input_ids: Any, attention_mask: Any, model: Any = None) -> Any:
        """Shapes: (rows, tokens) twice, (rows, models); returns (rows, outputs)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        return self.head(mean if model is None else torch.cat((mean, model), dim=-1))


class PaperHead(nn.Module):
    """SSJF's proxy (arXiv 2404.08509): [CLS], two layers of 128, the model's one-hot in between."""

    def __init__(self, encoder: Any, *, outputs: int, models: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.cls = nn.Linear(encoder.config.hidden_size, HIDDEN)
        self.fc1 = nn.Linear(HIDDEN + models, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, outputs)

    def forward(self, input_ids: Any, attention_mask: Any, model: Any = None) -> Any:
        """Shapes: (rows, tokens) twice, (rows, models); returns (rows, outputs)."""
        states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        seen = torch.relu(self.cls(states[:, 0]))
        if model is not None:
            seen = torch.cat((seen, model), dim=-1)
        return self.fc2(torch.relu(self.fc1(seen)))


class Scored(nn.Module):
    """A model with its outputs read as one score, shape (rows,): what is exported."""

    def __init__(self, model: Any, aim: Aim) -> None:
        super().__init__()
        self.model = model
        self.aim = aim

    def forward(self, input_ids: Any, attention_mask: Any, model: Any = None) -> Any:
        """Shapes as the model's."""
        said = self.model(input_ids, attention_mask, model)
        if said.shape[-1] > 1:
            classes = torch.arange(said.shape[-1], dtype=said.dtype)
            return (torch.softmax(said, dim=-1) * classes).sum(-1)
        said = said[:, 0]
        if self.aim.reading == "log":
            return torch.log(torch.clamp(said * self.aim.scale, min=1.0))
        return said * self.aim.scale + self.aim.shift
