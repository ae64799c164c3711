"""Unpacking keeps every byte of the text, and refuses an archive that is damaged or has other content."""

import tarfile

import pytest
import unpack


@pytest.fixture
def archive(tmp_path):
    def write(**files):
        with tarfile.open(tmp_path / "archive.tgz", "w:gz") as tar:
            for name, content in files.items():
                path = tmp_path / name
                path.write_bytes(content)
                tar.add(path, f"./training/{name.replace('_', '.')}")
                path.unlink()
        return tmp_path / "archive.tgz"

    return write


def take(archive, tmp_path, **keywords):
    return unpack.unpack(archive, "training/text", tmp_path / "out", ["en", "de"], **keywords)


def test_every_byte_is_kept(archive, tmp_path):
    source = "a\u2028b\r\nc\x85\x00\nlast without end".encode() + b"\xff"
    assert take(archive(text_en=source, text_de=b"1\n2\n3\n"), tmp_path, pairs=3) == 3
    assert (tmp_path / "out.en").read_bytes() == source


@pytest.mark.parametrize(
    ("files", "keywords", "message"),
    [
        ({"text_en": b"1\n2\n", "text_de": b"1\n"}, {}, "2 and 1 lines"),
        ({"text_en": b"1\n", "text_de": b"1\n"}, {"pairs": 2}, "has 1 pairs, not 2"),
        ({"text_en": b"1\n", "text_fr": b"1\n"}, {}, r"does not hold training/text\.de"),
    ],
)
def test_an_archive_with_other_content_is_refused(archive, tmp_path, files, keywords, message):
    with pytest.raises(unpack.UnusableArchive, match=message):
        take(archive(**files), tmp_path, **keywords)
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tgz"]


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "page"])
def test_a_damaged_archive_is_refused(archive, tmp_path, damage):
    text = "".join(str(i * i) + "\n" for i in range(20_000)).encode()
    path = archive(text_en=text, text_de=text)
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes(b ^ 255 for b in content[middle : middle + 50]) + content[middle + 50 :]
    path.write_bytes({"cut": content[:middle], "flipped": flipped, "empty": b"", "page": b"<html>gone</html>"}[damage])
    with pytest.raises(unpack.UnusableArchive, match=r"archive\.tgz is cut short or damaged"):
        take(path, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["archive.tgz"]
