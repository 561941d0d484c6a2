"""How many tokens a prompt has and which of its words do not fit, without torch.

The tokenizer is CLIP's byte-level BPE, built from the checkpoint's own files with the `tokenizers`
library, as transformers builds it.
"""

import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from dvcli.errors import InputError
from dvcli.models.layout import read_json

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own words: contractions, runs of letters, single digits, runs of anything else.
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def count_tokens(folder: Path, prompt: str) -> int:
    """How many tokens the prompt is, the marks of its start and end included."""
    return len(_tokenizer(folder).encode(prompt, add_special_tokens=False).ids) + 2


def max_tokens(folder: Path) -> int:
    """How many tokens the tokenizer keeps."""
    found = read_json(folder / "tokenizer_config.json").get("model_max_length", 77)
    return int(found) if found < 10_000 else 77


def overflow(folder: Path, prompt: str) -> str | None:
    """The words that do not fit, as they stand in the prompt; None when all do."""
    return cut(_tokenizer(folder), prompt, max_tokens(folder))


def cut(backend: Any, prompt: str, limit: int) -> str | None:
    """The end of the prompt from the first word that is not wholly within `limit` tokens."""
    offsets = backend.encode(prompt, add_special_tokens=False).offsets
    if len(offsets) + 2 <= limit:
        return None
    start = offsets[limit - 2][0]
    word = re.search(r"\S*$", prompt[:start])
    return prompt[start if word is None else word.start() :].strip()


def _tokenizer(folder: Path) -> Tokenizer:
    try:
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            model = BPE.from_file(
                str(folder / "vocab.json"),
                str(folder / "merges.txt"),
                continuing_subword_prefix="",
                end_of_word_suffix="</w>",
                unk_token=END,
            )
        else:
            whole = Tokenizer.from_file(str(folder / "tokenizer.json"))
            whole.no_padding()
            whole.no_truncation()
            return whole
    except Exception as error:  # the library raises nothing more precise
        raise InputError(f"`{folder}` is no CLIP tokenizer ({error})") from error
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in _special(folder)])
    return tokenizer


def _special(folder: Path) -> list[str]:
    """The marks that are read out of a prompt whole, the padding `!` of Stable Diffusion 2 too."""
    found = [START, END]
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        if (folder / file).is_file():
            settings = read_json(folder / file)
            for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
                token = settings.get(name)
                token = token.get("content") if isinstance(token, dict) else token
                if isinstance(token, str):
                    found.append(token)
    return list(dict.fromkeys(found))
