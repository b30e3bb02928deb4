import shutil
from pathlib import Path

import numpy as np
import pytest
from documents import picture, text_pdf, turned_pdf
from PIL import Image
from pypdfium2 import PdfDocument

from colsearcher.indexes.errors import FileProblem, MissingExtra
from colsearcher.retrieval.images import ImageFile
from colsearcher.retrieval.page import PageImage, Renderer
from colsearcher.retrieval.render import draw, is_blank, pixel_size

needs_poppler = pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="poppler (pdftoppm) is not installed")


def page(path: Path, number: int = 1, renderer: Renderer = "pdfium") -> PageImage:
    return PageImage(path, number, renderer)


def test_the_size_of_a_picture(tmp_path: Path) -> None:
    pdf = page(text_pdf(tmp_path / "a.pdf", ["hello"]))
    assert draw(pdf).size == (600, 400)
    assert draw(pdf, dpi=72).size == (300, 200)
    assert draw(pdf, max_side=1200).size == (1200, 800)
    assert draw(pdf, max_side=1200, dpi=72).size == (300, 200)
    assert draw(pdf, max_pixels=15_000).size == (150, 100)
    assert draw(pdf).mode == "RGB"


@pytest.mark.parametrize("size", [(14400, 14400), (14400, 1), (1, 14400), (3, 3), (0.01, 5000), (612, 792)])
@pytest.mark.parametrize("most", [1, 1000, 16_000_000])
def test_the_pixel_limit_always_holds(size: tuple[float, float], most: int) -> None:
    for width, height in (
        pixel_size(size, dpi=600, max_pixels=most),
        pixel_size(size, max_side=100_000, max_pixels=most),
        pixel_size(size, max_pixels=most, native=(90_000, 7)),
    ):
        assert width >= 1
        assert height >= 1
        assert width * height <= most


def test_a_huge_page_is_drawn_small(tmp_path: Path) -> None:
    document = PdfDocument.new()
    document.new_page(14400, 14400)
    document.save(str(tmp_path / "a.pdf"))
    document.close()
    drawn = draw(page(tmp_path / "a.pdf"), dpi=300, max_pixels=250_000)
    assert drawn.size == (500, 500)
    assert is_blank(drawn)


def test_blank_means_all_pixels_alike() -> None:
    almost = Image.new("RGB", (50, 50), "grey")
    assert is_blank(almost)
    almost.putpixel((49, 49), (128, 128, 129))
    assert not is_blank(almost)


@needs_poppler
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("crop", [False, True], ids=["whole", "cropped"])
def test_poppler_and_pdfium_draw_the_same(tmp_path: Path, turn: int, crop: bool) -> None:
    path = turned_pdf(tmp_path / "a.pdf", turn, crop=crop, shift=crop)
    one, other = draw(page(path), dpi=100), draw(page(path, renderer="poppler"), dpi=100)
    assert one.size == other.size
    small = (one.width // 8, one.height // 8)
    a, b = (np.asarray(x.convert("L").resize(small, Image.Resampling.BOX), float) for x in (one, other))
    assert a.min() < 220, "there is something to compare"
    assert np.abs(a - b).max() < 70, "anti-aliasing differs, places do not"


@needs_poppler
def test_poppler_says_what_it_cannot_draw(tmp_path: Path) -> None:
    path = text_pdf(tmp_path / "a.pdf", ["hello"] * 20)
    path.write_bytes(path.read_bytes()[:-1500])
    assert draw(page(path)).size == (600, 400)
    with pytest.raises(FileProblem, match="Poppler cannot draw page 1; try --renderer pdfium"):
        draw(page(path, renderer="poppler"))


def test_without_poppler_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = text_pdf(tmp_path / "a.pdf", ["hello"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match="apt-get install poppler-utils"):
        draw(page(path, renderer="poppler"))


def corner(width: int = 80, height: int = 40, mode: str = "RGB") -> Image.Image:
    """White with a black top left corner."""
    image = Image.new("RGB", (width, height), "white")
    image.paste("black", (0, 0, width // 4, height // 4))
    return image.convert(mode)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_camera_was_turned(tmp_path: Path, suffix: str, orientation: int) -> None:
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = corner() if undo is None else corner().transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    stored.save(path, exif=exif, dpi=(144, 144), quality=95)
    with ImageFile(path) as file:
        expected = (40.0, 20.0) if suffix != ".webp" else (80.0, 40.0)
        assert file.size(1) == pytest.approx(expected, rel=0.01)
        assert file.native_pixels(1) == (80, 40)
    shown = np.asarray(draw(page(path, renderer="image"), max_side=80).convert("L"))
    assert shown.shape == (40, 80)
    assert shown[:8, :18].max() < 60
    assert shown[12:].min() > 190
    assert draw(page(path, renderer="image"), max_side=40).size == (40, 20)
    assert draw(page(path, renderer="image"), max_side=4000).size == (80, 40), "never enlarged"


def test_a_tiff_has_a_page_for_each_image_and_a_gif_one(tmp_path: Path) -> None:
    frames = [corner(), corner(20, 60), corner(mode="1")]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=[corner(mode="L")])
    with ImageFile(tmp_path / "a.tiff") as file:
        assert file.pages == 3
        assert [file.size(number) for number in (2, 1, 3)] == [(20, 60), (80, 40), (80, 40)]
        assert file.draw(2, (20, 60)).size == (20, 60)
        with pytest.raises(FileProblem, match="no page 4; the file has 3"):
            file.size(4)
    with ImageFile(tmp_path / "a.gif") as file:
        assert file.pages == 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "RGBA", "LA", "I;16", "F", "I"])
def test_every_mode_is_drawn(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.asarray(corner(mode="L")).astype(np.uint16) * 257)
    elif mode == "I":
        image = Image.fromarray(np.asarray(corner(mode="L")).astype(np.int32) * 257)
    else:
        image = corner(mode=mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(np.where(np.asarray(corner(mode="L")) > 128, 0, 255).astype(np.uint8)))
    image.save(tmp_path / "a.tiff")
    shown = np.asarray(draw(page(tmp_path / "a.tiff", renderer="image")).convert("L"))
    assert shown[0, 0] < 40
    assert shown[-1, -1] > 215


def test_broken_images_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "words.png").write_text("Dear Sir or Madam")
    picture(["hello"]).save(tmp_path / "whole.png")
    picture(["hello"]).save(tmp_path / "whole.tif", compression="tiff_lzw")
    for name in ("whole.png", "whole.tif"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    for name, reason in {
        "empty.png": "is empty",
        "words.png": "not an image of a known kind",
        "whole.png": "broken",
        "whole.tif": "broken",
        "nowhere.png": "no such file",
    }.items():
        with pytest.raises(FileProblem, match=reason):
            draw(page(tmp_path / name, renderer="image"))


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
    with pytest.raises(FileProblem, match="more than 178 million pixels; scale it down"):
        ImageFile(tmp_path / "a.png")
    Image.new("1", (60, 60)).save(
        tmp_path / "a.tiff", save_all=True, append_images=[Image.new("1", (20_000, 20_000))], compression="group4"
    )
    with ImageFile(tmp_path / "a.tiff") as file:
        assert file.size(1) == (60, 60)
        with pytest.raises(FileProblem, match="178 million"):
            file.size(2)
