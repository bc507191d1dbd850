"""fairseq's names for wav2vec 2.0, HuBERT and WavLM, as published ``.pt`` files have them.

Such a file holds ``model``, the weights, and beside it ``args`` or ``cfg``, often pickled objects.
Those are never unpickled here: :data:`CONVERT` says how to leave them out of a trusted file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from voiceguard.errors import BundleError
from voiceguard.features.ssl.reading import State

CONVERT = (
    "A fairseq checkpoint carries its training arguments as pickled objects. If you trust its "
    "source, keep the weights alone, once, in an environment without secrets: "
    "torch.save({'model': torch.load(OLD, weights_only=False)['model']}, NEW). Or take the same "
    "weights in the Hugging Face or torchaudio layout."
)
"""What to do with a file that was refused."""

_PREFIX = re.compile(r"^(?:module\.)?(?:ssl_model\.model\.|w2v_encoder\.)?(?:w2v_model\.)?")
_LEFT_OUT = re.compile(
    r"^(mask_emb|label_embs_concat|quantizer\.|project_q\.|final_proj\.|target_glu\.|proj\.)"
)
_BLOCK = r"encoder\.layers\.(\d+)\."
_OURS = r"encoder.transformer.layers.\1."
_RULES = tuple(
    (re.compile(f"^{pattern}$"), replacement)
    for pattern, replacement in (
        (
            r"feature_extractor\.conv_layers\.(\d+)\.0\.(weight|bias)",
            r"feature_extractor.conv_layers.\1.conv.\2",
        ),
        (
            r"feature_extractor\.conv_layers\.(\d+)\.2\.(?:1\.)?(weight|bias)",
            r"feature_extractor.conv_layers.\1.layer_norm.\2",
        ),
        (r"post_extract_proj\.(weight|bias)", r"encoder.feature_projection.projection.\1"),
        (r"layer_norm\.(weight|bias)", r"encoder.feature_projection.layer_norm.\1"),
        (r"encoder\.pos_conv\.0\.(.+)", r"encoder.transformer.pos_conv_embed.conv.\1"),
        (r"encoder\.layer_norm\.(weight|bias)", r"encoder.transformer.layer_norm.\1"),
        (_BLOCK + r"self_attn\.grep_linear\.(.+)", _OURS + r"attention.gru_rel_pos_linear.\2"),
        (_BLOCK + r"self_attn\.grep_a", _OURS + r"attention.gru_rel_pos_const"),
        (
            _BLOCK + r"self_attn\.relative_attention_bias\.(.+)",
            _OURS + r"attention.rel_attn_embed.\2",
        ),
        (_BLOCK + r"self_attn\.(.+)", _OURS + r"attention.\2"),
        (_BLOCK + r"self_attn_layer_norm\.(.+)", _OURS + r"layer_norm.\2"),
        (_BLOCK + r"fc1\.(.+)", _OURS + r"feed_forward.intermediate_dense.\2"),
        (_BLOCK + r"fc2\.(.+)", _OURS + r"feed_forward.output_dense.\2"),
        (_BLOCK + r"final_layer_norm\.(.+)", _OURS + r"final_layer_norm.\2"),
    )
)


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has fairseq's names."""
    return any("post_extract_proj." in key or ".self_attn.k_proj." in key for key in state)


def to_torchaudio(state: Mapping[str, Tensor], *, name: str) -> State:
    """Rename to torchaudio's names.

    Prefixes of fine-tuned models and of the published SSL-AASIST checkpoints
    (``ssl_model.model.``, with or without ``module.``) are taken off; what only pretraining or
    recognition needs is left out.

    Parameters
    ----------
    state : mapping of str to Tensor
        The encoder's weights only: take a back end's out first.
    name : str
        File that it came from, for messages.

    Raises
    ------
    BundleError
        If a name is not one of fairseq's.
    """
    renamed = {}
    for key, value in state.items():
        bare = _PREFIX.sub("", key)
        if not _LEFT_OUT.match(bare):
            renamed[_rename(bare, name)] = value
    return joined_attention(renamed) if _is_wavlm(renamed) else renamed


def joined_attention(state: State) -> State:
    """Join the query, key and value projections of WavLM's blocks, as torchaudio keeps them."""
    import torch

    joined = dict(state)
    for key in state:
        found = re.match(r"(.+\.attention)\.q_proj\.(weight|bias)$", key)
        if found is None:
            continue
        parts = [joined.pop(f"{found[1]}.{letter}_proj.{found[2]}", None) for letter in "qkv"]
        # A missing part shows as a missing joined tensor.
        if all(part is not None for part in parts):
            joined[f"{found[1]}.attention.in_proj_{found[2]}"] = torch.cat(
                [part for part in parts if part is not None]
            )
    return {
        re.sub(r"\.attention\.out_proj\.", ".attention.attention.out_proj.", key): value
        for key, value in joined.items()
    }


def _is_wavlm(state: State) -> bool:
    return any("gru_rel_pos" in key for key in state)


def _rename(key: str, name: str) -> str:
    for pattern, replacement in _RULES:
        renamed, count = pattern.subn(replacement, key)
        if count:
            return renamed
    raise BundleError(f"Weights file {name!r} holds {key!r}, which is none of fairseq's names.")
