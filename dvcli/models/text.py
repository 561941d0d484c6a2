"""A prompt's embedding, exactly as the checkpoint's own pipeline makes it."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dvcli.errors import InputError


@torch.no_grad()
def embed(tokenizer: Any, text_encoder: Any, prompt: str) -> Float[Tensor, "l d"]:
    """The last hidden state over all `l` tokens, padded and cut to the tokenizer's length.

    The padding is attended to, unless the encoder's config says otherwise: that is how these models
    were trained. On the encoder's device and in its precision.
    """
    found = tokenizer(
        prompt,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    if int(found.input_ids.max()) >= text_encoder.config.vocab_size:
        raise InputError(
            f"the tokenizer has words that its text encoder of {text_encoder.config.vocab_size}"
            " words does not know",
            hint="the two are not of one checkpoint",
        )
    masked = getattr(text_encoder.config, "use_attention_mask", False)
    mask = found.attention_mask.to(text_encoder.device) if masked else None
    hidden: Tensor = text_encoder(
        found.input_ids.to(text_encoder.device), attention_mask=mask
    ).last_hidden_state
    return hidden[0]
