"""The sidecars of the three models, and a tokenizer of twelve words."""

_HEAD = """\
format = 1
kind = "multimodal"

[output]
name = "logits"
classes = ["red", "green", "blue"]

[limits]
inputs_max = 64
batch_max = 16

[[modalities]]
name = "image"
tensors = [{ name = "image", datatype = "FP32", shape = [3, 8, 8], fill = 0.5 }]
preprocess = { type = "image", input = "picture", pixels_max = 10000 }

[[modalities]]
name = "text"
tensors = [
    { name = "ids", datatype = "INT64", shape = [6] },
    { name = "ids_mask", datatype = "INT64", shape = [6] },
]
"""

_TEXT = """\
preprocess = { type = "text", input = "caption", ids = "ids", mask = "ids_mask" }
"""

_SENSOR = """
[[modalities]]
name = "sensor"
tensors = [{ name = "sensor", datatype = "FP32", shape = [4] }]
"""

_FUSED = """
[fusion]
file = "fusion.onnx"
mask = "present"

[[encoders]]
modality = "image"
file = "image.onnx"

[[encoders]]
modality = "text"
file = "text.onnx"

[[encoders]]
modality = "sensor"
file = "sensor.onnx"

[[encoders]]
modality = "image"
variant = "int8"
file = "image.int8.onnx"

[[encoders]]
modality = "text"
variant = "int8"
file = "text.int8.onnx"
"""

_PER_SUBSET = """
[[subsets]]
modalities = ["image"]
file = "image.onnx"

[[subsets]]
modalities = ["sensor"]
file = "sensor.onnx"

[[subsets]]
modalities = ["image", "text"]
file = "image_text.onnx"

[[subsets]]
modalities = ["image", "text", "sensor"]
file = "image_text_sensor.onnx"
"""

_JOINT = """
[[joint]]
file = "joint.onnx"
presence = "present"
"""

SIDECARS = {
    "fused": _HEAD + _TEXT + _SENSOR + _FUSED,
    "per_subset": _HEAD + _SENSOR + _PER_SUBSET,
    "joint": _HEAD + _TEXT + _SENSOR + _JOINT,
}

_VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "the", "a", "very", "thing", "on"]

TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordLevel",
        "vocab": {word: i for i, word in enumerate(_VOCABULARY)},
        "unk_token": "[UNK]",
    },
}
