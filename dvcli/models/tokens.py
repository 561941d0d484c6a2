"""Which words of a prompt do not fit into the text encoder, without torch.

The tokenizer is CLIP's byte-level BPE, built from the checkpoint's own files with the `tokenizers`
library, as transformers builds it.
"""

import re
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

from dvcli.errors import InputError
from dvcli.models.configs import read_json
from dvcli.models.settings import token_limit

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own words: contractions, runs of letters, single digits, runs of anything else.
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def max_tokens(folder: Path) -> int:
    """How many tokens the tokenizer keeps."""
    file = folder / "tokenizer_config.json"
    return token_limit(read_json(file) if file.exists() else {})


def overflow(folder: Path, prompt: str) -> str | None:
    """The prompt from its first word that is not wholly read, as it stands; None when all fits."""
    room = max_tokens(folder) - 2  # the marks of the start and the end
    offsets = tokenizer(folder).encode(prompt, add_special_tokens=False).offsets
    if len(offsets) <= room:
        return None
    start = offsets[room][0]
    word = re.search(r"\S*$", prompt[:start])
    return prompt[start if word is None else word.start() :].strip()


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint, which neither pads nor cuts."""
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
    made = Tokenizer(model)
    made.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    made.add_special_tokens([AddedToken(t, special=True) for t in _special(folder)])
    return made


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
