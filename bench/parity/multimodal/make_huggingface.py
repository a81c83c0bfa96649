"""Makes directories as Hugging Face's Optimum exports them, of tiny random models, and what Transformers answers with them.

python make_huggingface.py          makes crates/satisfice-multimodal/tests/fixtures/huggingface/ anew

Needs torch, onnx, pillow and transformers. Each directory has the files that `optimum-cli export onnx` writes: the network with its
names of inputs and outputs, config.json, and the tokenizer's or the preprocessing's files, all written by Transformers itself.
cases.json has what a pipeline of Transformers answers to some texts and pictures.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers as tf
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

FIXTURES = Path(__file__).resolve().parents[3] / "crates/satisfice-multimodal/tests/fixtures/huggingface"
TOKENS = 12
TEXTS = ["a red cat", "the blue house and the green tree", "", "Cats, houses; trees! And a very very very very long line of words", "ünknown"]
WORDS = "a the red blue green cat cats house houses tree trees and very long line of words , ; ! ##s ##e".split()
torch.manual_seed(7)
RNG = np.random.default_rng(7)


def tokenizer() -> tf.PreTrainedTokenizerFast:
    vocabulary = {w: i for i, w in enumerate(["[UNK]", "[CLS]", "[SEP]", "[MASK]", "[PAD]", *WORDS])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    special = {f"{n}_token": f"[{n.upper()}]" for n in ("unk", "cls", "sep", "mask", "pad")}
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return tf.PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=48, model_input_names=names, **special)


def made(kind: type, config: tf.PretrainedConfig) -> tf.PreTrainedModel:
    """A model of random weights that is exported as it computes."""
    config.architectures = [kind.__name__]
    config._attn_implementation = "eager"
    return kind(config).eval()


def bert() -> dict:
    return {"vocab_size": 5 + len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
            "max_position_embeddings": 48, "pad_token_id": 4}  # fmt: skip


def pictures() -> list[Image.Image]:
    """Larger and smaller than the networks', of odd and even sides."""
    sizes = [(40, 31), (23, 57), (32, 32), (19, 12)]
    return [Image.fromarray(RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def export(model: torch.nn.Module, arguments: dict, outputs: list[str], directory: Path) -> None:
    axes = {"input_ids": ["batch_size", "sequence_length"], "pixel_values": ["batch_size", "num_channels", "height", "width"]}
    axes["attention_mask"] = axes["token_type_ids"] = axes["input_ids"]
    dynamic = {n: dict(enumerate(axes[n])) for n in arguments}
    dynamic |= {n: {0: "batch_size"} | ({1: "sequence_length"} if n == "last_hidden_state" and "input_ids" in arguments else {}) for n in outputs}
    names = list(arguments)
    torch.onnx.export(Named(model, names, outputs).eval(), tuple(arguments.values()), str(directory / "model.onnx"), input_names=names,
                      output_names=outputs, dynamic_axes=dynamic, opset_version=17, dynamo=False)  # fmt: skip


class Named(torch.nn.Module):
    """A model that takes its arguments in order, and gives its outputs by name."""

    def __init__(self, model: torch.nn.Module, names: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, names, outputs

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = self.model(**dict(zip(self.names, values, strict=True)))
        return tuple(getattr(given, name) for name in self.outputs)


def encoded(of: tf.PreTrainedTokenizerFast, texts: list[str]) -> dict[str, torch.Tensor]:
    made = of(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    return {n: made[n] for n in ("input_ids", "attention_mask", "token_type_ids")}


@torch.no_grad()
def texts(out: Path) -> list[dict]:
    words = tokenizer()
    cases = []
    labels = {"id2label": {0: "bad", 1: "good", 2: "so so"}, "label2id": {"bad": 0, "good": 1, "so so": 2}}
    classifier = made(tf.BertForSequenceClassification, tf.BertConfig(**bert(), **labels))
    embedder = made(tf.BertModel, tf.BertConfig(**bert()))
    for name, model, output in (("classifier", classifier, "logits"), ("sentences", embedder, "last_hidden_state")):
        directory = out / name
        directory.mkdir(parents=True)
        export(model, encoded(words, TEXTS), [output], directory)
        model.config.save_pretrained(directory)
        words.save_pretrained(directory)
        inputs = encoded(words, TEXTS)
        values = model(**inputs)[output]
        if name == "sentences":
            mask = inputs["attention_mask"][..., None]
            values = torch.nn.functional.normalize((values * mask).sum(1) / mask.sum(1))
            (directory / "1_Pooling").mkdir()
            pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
            (directory / "1_Pooling/config.json").write_text(json.dumps(pooling))
            types = ["Transformer", "Pooling", "Normalize"]
            modules = [{"idx": i, "name": str(i), "path": "", "type": f"sentence_transformers.models.{t}"} for i, t in enumerate(types)]
            (directory / "modules.json").write_text(json.dumps(modules))
        cases.append({"directory": name, "texts": TEXTS, "answers": values.double().numpy().round(6).tolist()})
    return cases


PROCESSORS = {
    "vit": tf.ViTImageProcessor(size={"height": 16, "width": 16}),
    "clip": tf.CLIPImageProcessor(size={"shortest_edge": 18}, crop_size={"height": 16, "width": 16}),
    "deit": tf.DeiTImageProcessor(size={"height": 21, "width": 21}, crop_size={"height": 16, "width": 16}),
    "convnext": tf.ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.875),
}


@torch.no_grad()
def images(out: Path) -> list[dict]:
    cases, shown = [], pictures()
    (out / "pictures").mkdir()
    for i, picture in enumerate(shown):
        picture.save(out / f"pictures/{i}.png")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 16, "patch_size": 8}
    labels = {"id2label": {0: "cat", 1: "dog", 2: "bird"}, "label2id": {"cat": 0, "dog": 1, "bird": 2}}
    for name, processor in PROCESSORS.items():
        directory = out / name
        directory.mkdir(parents=True)
        model = made(tf.ViTForImageClassification, tf.ViTConfig(**sizes, **labels))
        pixels = processor(shown, return_tensors="pt")["pixel_values"]
        export(model, {"pixel_values": pixels}, ["logits"], directory)
        model.config.save_pretrained(directory)
        processor.save_pretrained(directory)
        cases.append({"directory": name, "pictures": len(shown), "answers": model(pixels).logits.double().numpy().round(6).tolist()})
    return cases


def main() -> None:
    shutil.rmtree(FIXTURES, ignore_errors=True)
    cases = texts(FIXTURES) + images(FIXTURES)
    for leftover in FIXTURES.rglob("*_map.json"):
        leftover.unlink()
    (FIXTURES / "cases.json").write_text("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")


if __name__ == "__main__":
    main()
