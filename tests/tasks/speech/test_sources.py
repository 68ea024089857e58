"""The layouts, on small made-up copies, and the real digits where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgebench.errors import DataError
from edgebench.tasks import task_named
from edgebench.tasks.speech.transcripts import texts_of
from edgebench.tasks.task import Dataset, Split
from tests.tasks.leftovers import strew
from tests.tasks.speech.sounds import tone, write

TASK = task_named("speech-recognition")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Digits 3 and 7 of two speakers, takes 0 to 11; those of bo are longer than a second."""
    for digit in (3, 7):
        for speaker, length_s in (("ann", 0.5), ("bo", 1.25)):
            for take in range(12):
                path = tmp_path / "data" / "fsdd" / "recordings" / f"{digit}_{speaker}_{take}.wav"
                write(path, tone(100 * digit, length_s))
    return strew(tmp_path / "data")


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A chapter in each part of LibriSpeech, 16 kHz; one utterance of the first is longer than 8 s."""
    for part, speaker, lengths_s in (
        ("train-clean-100", 19, (1.7, 8.5, 2.0)),
        ("dev-clean", 84, (1,)),
        ("test-clean", 61, (1,)),
    ):
        chapter = tmp_path / "data" / "LibriSpeech" / part / str(speaker) / "198"
        lines = []
        for number, length_s in enumerate(lengths_s):
            name = f"{speaker}-198-{number:04}"
            write(chapter / f"{name}.flac", tone(500, length_s, 16_000), 16_000)
            lines.append(f"{name} IT'S CHAPTER {'ABC'[number]}")
        (chapter / f"{speaker}-198.trans.txt").write_text("\n\n".join(lines) + "\n \n")
    return strew(tmp_path / "data")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three recordings in stereo at 22.05 kHz."""
    folder = tmp_path / "data" / "speech"
    for name in ("a", "b", "c"):
        write(folder / "wav" / f"{name}.wav", np.stack([tone(500, 0.7, 22_050), 0 * tone(500, 0.7, 22_050)], 1), 22_050)
    rows = ["file,transcript,speaker,split"]
    rows += ["wav/a.wav,Light  ON,ann,train", "wav/b.wav,off,bo,valid", "wav/c.wav,it's off,cy,test"]
    (folder / "transcripts.csv").write_text("\n".join(rows) + "\n")
    return strew(tmp_path / "data")


def _message(data: Path) -> str:
    with pytest.raises(DataError) as caught:
        TASK.load(data, seed=1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _splits(data: Dataset) -> tuple[Split, Split, Split]:
    return data.train, data.valid, data.test


def test_takes_of_digits_are_split_as_published(digits: Path) -> None:
    data = TASK.load(digits, seed=1)
    assert (data.source, data.real, data.natural_key) == ("Free Spoken Digit Dataset", True, "speaker")
    assert (data.spec.dtype, data.spec.shape) == ("int16", (8_000,))
    assert [len(split) for split in _splits(data)] == [8, 20, 20]
    assert texts_of(data.test.y) == ["three"] * 10 + ["seven"] * 10
    assert data.test.key is not None
    assert data.test.key.tolist() == ([0] * 5 + [1] * 5) * 2
    groups = [set(split.group) for split in _splits(data)]
    assert [len(group) for group in groups] == [4, 10, 10]
    assert len(groups[0] | groups[1] | groups[2]) == 24


def test_short_digits_end_in_silence_and_long_ones_are_cut(digits: Path) -> None:
    x = TASK.load(digits, seed=1).test.x
    assert np.abs(x[0, :4_000]).max() == pytest.approx(16_384, abs=60)
    assert not x[0, 4_000:].any()
    assert x[5, 7_000:].any()


def test_the_second_load_comes_from_the_cache(digits: Path, tmp_path: Path) -> None:
    first, second = TASK.load(digits, seed=1), TASK.load(digits, seed=2)
    assert len(list((tmp_path / "cache").glob("fsdd-*.npz"))) == 1
    assert np.array_equal(first.train.x, second.train.x)
    assert np.array_equal(first.train.y, second.train.y)


def test_a_take_whose_number_is_too_large_is_named(digits: Path) -> None:
    path = digits / "fsdd" / "recordings" / f"3_ann_{'9' * 200}.wav"
    (digits / "fsdd" / "recordings" / "3_ann_11.wav").rename(path)
    assert f"{path}: the number of its take is beyond 64 bits; rename or remove it" in _message(digits)


def test_a_set_of_digits_without_test_takes_says_so(digits: Path) -> None:
    for path in digits.rglob("*_[0-4].wav"):
        path.unlink()
    assert "no recording of takes 0 to 4, the split test; get all of the Free Spoken Digit Dataset" in _message(digits)


@pytest.mark.parametrize(
    ("content", "mend"), [(b"RIFF", "no recording that can be read"), (None, "an empty recording")]
)
def test_a_broken_recording_is_named(digits: Path, content: bytes | None, mend: str) -> None:
    path = digits / "fsdd" / "recordings" / "3_ann_7.wav"
    if content is None:
        write(path, tone(500, 0))
    else:
        path.write_bytes(content)
    message = _message(digits)
    assert message.startswith(f"{path}: {mend}")
    assert message.endswith("download it again")


def test_sentences_of_librispeech_come_at_8_khz_and_without_the_longest(books: Path) -> None:
    data = TASK.load(books, seed=1)
    assert data.source == "LibriSpeech, utterances of at most 8 s"
    assert texts_of(data.train.y) == ["it's chapter a", "it's chapter c"]
    assert texts_of(data.test.y) == ["it's chapter a"]
    # The longest that is kept lasts 2.0 s.
    assert data.spec.shape == (16_000,)
    assert np.abs(data.train.x).max(axis=1) == pytest.approx(16_384, rel=0.1)
    assert not data.train.x[0, 13_600:].any()
    # 500 Hz is 500 Hz at any rate.
    assert np.abs(np.fft.rfft(data.train.x[1])).argmax() == 1_000
    assert [len(np.unique(split.group)) for split in _splits(data)] == [1, 1, 1]


def test_a_transcript_without_its_recording_is_named(books: Path) -> None:
    next(books.rglob("19-198-0001.flac")).unlink()
    assert "19-198.trans.txt, line 3: no recording 19-198-0001.flac beside it; unpack all of" in _message(books)


def test_a_part_of_librispeech_that_is_not_there_is_asked_for(books: Path) -> None:
    next(books.rglob("dev-clean")).rename(books / "elsewhere")
    assert "in the split valid; unpack dev-clean there: train-clean-100, dev-clean and test-clean" in _message(books)


def test_a_folder_of_ones_own_is_mixed_resampled_and_split_as_its_table_says(own: Path) -> None:
    data = TASK.load(own, seed=1)
    assert data.source == "recordings, utterances of at most 8 s"
    assert [texts_of(split.y) for split in _splits(data)] == [["light on"], ["off"], ["it's off"]]
    assert data.spec.shape == (8_000,)
    # One of two channels is silent.
    assert np.abs(data.train.x).max() == pytest.approx(8_192, rel=0.1)


def test_without_splits_the_speakers_name_decides_and_no_speaker_stands_in_two(own: Path) -> None:
    rows = [f"wav/a.wav,on,speaker {n % 40}" for n in range(80)]
    (own / "speech" / "transcripts.csv").write_text("file,transcript,speaker\n" + "\n".join(rows) + "\n")
    data = TASK.load(own, seed=1)
    groups = [set(split.group) for split in _splits(data)]
    assert len(groups[0] | groups[1] | groups[2]) == sum(map(len, groups)) == 40
    assert len(groups[0]) > 20


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,text\n", "transcripts.csv: no column 'transcript'; give WAV files"),
        ("file,transcript\n", "transcripts.csv: no rows; give WAV files"),
        ("file,transcript\nwav/d.wav,on\n", "line 2: no file 'wav/d.wav' in the folder; correct its name"),
        ("file,transcript\nwav/a.wav,channel 5\n", "line 2: character '5' in a transcript; write words of a–z"),
        ("file,transcript\nwav/a.wav,\n", "line 2: no transcript; write words"),
        ("file,transcript,split\nwav/a.wav,on,dev\n", "line 2: split 'dev'; there are train, valid, test"),
        ("file,transcript,speaker,split\nwav/a.wav,on,x,train\nwav/b.wav,on,x,test\n", "keep a speaker in one split"),
        (f"file,transcript\nwav/a.wav,{'on ' * 20}\n", "line 2: too long a transcript for 1 s of sound; check it"),
        ("file,transcript,split\nwav/a.wav,on,train\n", "in the split valid; give more recordings, or name valid in a"),
    ],
)
def test_a_broken_table_is_named_with_the_mend(own: Path, table: str, message: str) -> None:
    (own / "speech" / "transcripts.csv").write_text(table)
    found = _message(own)
    assert message in found
    assert str(own / "speech") in found


def test_an_empty_folder_says_what_can_be_put_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    message = _message(tmp_path / "data")
    for part in ("Free Spoken Digit Dataset (CC BY-SA 4.0,", "openslr.org/12 (CC BY 4.0)", "transcripts.csv"):
        assert part in message


def test_the_real_digits_are_2500_of_five_speakers(real_data: Path) -> None:
    data = TASK.load(real_data, seed=1)
    assert [len(split) for split in _splits(data)] == [2_000, 250, 250]
    assert {len(np.unique(split.key)) for split in _splits(data) if split.key is not None} == {5}
    assert sorted(set(texts_of(data.test.y))) == sorted(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    # As much of each word.
    assert (np.unique(texts_of(data.test.y), return_counts=True)[1] == 25).all()
    assert (np.abs(data.train.x.astype(int)).max(axis=1) > 100).all()
