"""The two pages and the model card: self-contained, honest about what is missing, and without a real pixel in public."""

import base64
import io
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from run_fixture import CLASSES, MARK, make_run
from synthoma.dataset import Dataset
from synthoma.errors import ModelError, SynthomaError
from synthoma.report import model_card, write_report
from synthoma.report.metrics import metric_label, space_views, yardstick_words
from synthoma.run import Run, read_json, write_json


@dataclass
class Pages:
    run: Run
    dataset: Dataset
    public: str
    private: str


def pages_of(run: Run, dataset: Dataset | None) -> tuple[str, str]:
    public, private = write_report(run, dataset)
    assert (public, private) == (run.path / "report.html", run.private / "report.html")
    return public.read_text(encoding="utf-8"), private.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    run, dataset = make_run(tmp_path_factory.mktemp("run") / "run", kimg=20)
    return Pages(run, dataset, *pages_of(run, dataset))


@dataclass
class Seen(HTMLParser):
    """Elements and addresses of a page."""

    tags: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    handlers: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster", "background") or (tag == "link" and name == "href"):
                self.loads.append(value or "")
            elif name in ("href", "xlink:href", "action"):
                self.links.append(value or "")
            elif name.startswith("on"):
                self.handlers.append(name)
            elif name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def seen(page: str) -> Seen:
    parser = Seen()
    parser.feed(page)
    return parser


def pictures_in(page: str) -> list[np.ndarray]:
    """All frames of all pictures that the page holds, as RGB arrays."""
    frames = []
    for content in re.findall(r"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", page):
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            frames += [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]
    return frames


def holds_mark(picture: np.ndarray) -> bool:
    """Whether the mark of real pictures is in a picture: upright or mirrored, as it is or enlarged up to four times."""
    red = picture[..., 0].astype(np.int16)
    for scale in (1, 2, 4):
        for mark in (MARK, MARK[:, ::-1]):
            reach = 2 * scale
            if min(red.shape) <= reach:
                continue
            height, width = red.shape[0] - reach, red.shape[1] - reach
            found = np.ones((height, width), dtype=bool)
            for (y, x), value in np.ndenumerate(mark.astype(np.int16)):
                found &= np.abs(red[y * scale :, x * scale :][:height, :width] - value) < 12
            if found.any():
                return True
    return False


def test_both_pages_load_nothing_from_elsewhere(pages: Pages) -> None:
    for page in (pages.public, pages.private):
        parsed = seen(page)
        assert parsed.loads
        assert all(address.startswith("data:") for address in parsed.loads)
        assert all(address.startswith("#") for address in parsed.links)
        assert not {"script", "iframe", "object", "embed", "base", "form"} & set(parsed.tags)
        assert not parsed.handlers
        assert not re.search(r"https?:|@import|url\(", page)
        assert "default-src 'none'" in page


def test_links_of_the_page_lead_to_sections_that_exist(pages: Pages) -> None:
    for page in (pages.public, pages.private):
        parsed = seen(page)
        assert {link.removeprefix("#") for link in parsed.links} <= set(parsed.ids)
        assert len(parsed.ids) == len(set(parsed.ids))


def test_the_public_page_has_no_real_pixel(pages: Pages) -> None:
    private = [holds_mark(picture) for picture in pictures_in(pages.private)]
    # The private page proves that the search finds real pictures: 4 classes of up to 6, neighbours, suspects, overview.
    assert sum(private) >= 24 + 8 + 2 + 1
    public = pictures_in(pages.public)
    assert len(public) > 30
    assert not any(holds_mark(picture) for picture in public)


def test_the_public_page_has_none_of_the_private_parts(pages: Pages) -> None:
    overview = base64.b64encode((pages.dataset.path / "private" / "overview.png").read_bytes()).decode()
    assert overview in pages.private
    assert overview not in pages.public
    private_ids = {"real", "neighbours", "findings"}
    assert private_ids <= set(seen(pages.private).ids)
    assert not private_ids & set(seen(pages.public).ids)


def test_the_public_page_names_no_group_path_or_image(pages: Pages) -> None:
    assert not re.search(r"\bG\d{5}\b", pages.public)
    assert "/home/someone" not in pages.public
    assert "groups.csv" not in pages.public
    assert not any(key in pages.public for key in pages.dataset.column("key"))
    assert "/home/someone/patients/groups.csv" in pages.private, "the owner's page has the whole recipe"


def test_the_page_says_what_it_is(pages: Pages) -> None:
    assert "Synthetic images, not for diagnosis" in pages.public
    assert "no verdict" in pages.public
    assert "Private: this page shows real images" in pages.private
    for part in ("Metrics", "Data", "Progress over training", "Training", "Settings", "Provenance", "Glossary"):
        assert f"<h2>{part}</h2>" in pages.public


def test_the_data_section_tells_counts_and_losses(pages: Pages) -> None:
    text = " ".join(seen(pages.public).text)
    counts = pages.dataset.info["counts"]["train"]
    row = re.search(r'<th scope="row">melanoma</th><td class="number">(\d+)</td>', pages.public)
    assert row is not None
    assert int(row[1]) == counts["melanoma"]
    for phrase in (
        "2 × the file is truncated",
        "1 × the file is empty",
        "its groups allow no better",
        "1 set kept in one split; 2 pairs that given groups or splits hold apart",
    ):
        assert phrase in text


def test_every_number_stands_with_interval_and_floor(pages: Pages) -> None:
    fidelity = read_json(pages.run.evaluation / "fidelity.json")
    for space in space_views(fidelity):
        cells = [row.cell for row in space.rows]
        assert space.by_class is not None
        cells += [cell for _, row in space.by_class.rows for cell in row]
        assert len(cells) > 10
        for cell in cells:
            assert cell.reason or (cell.value and cell.interval and cell.floor and cell.floor_interval and cell.strip)
            assert not cell.reason or cell.footnote
    text = " ".join(seen(pages.public).text)
    assert "0.151 – 0.213" in text
    assert "this feature space has no class probabilities" in text
    assert "31 test images; this metric needs at least 50 on each side" in text


def test_only_the_standard_inception_gives_a_fid() -> None:
    assert metric_label("fd", "inception_v3_fid") == "FID"
    assert metric_label("fd", "mobilenet_v2") == "FD"
    assert metric_label("fd", "randconv") == "FD"


@pytest.mark.parametrize(
    ("direction", "value", "yardstick", "expected"),
    [
        ("lower", 0.5, 2.1, "20\u202f% of the way from the floor to the yardstick (2.10)"),
        ("higher", -0.3, -1.9, "20\u202f% of the way from the floor to the yardstick (−1.90)"),
        ("lower", 4.1, 0.5, "10 times as far from the floor as the yardstick (0.500)"),
        ("lower", 0.0, 2.1, "no worse than the floor; yardstick 2.10"),
        ("lower", 0.5, 0.15, "yardstick 0.150, within the floor's interval"),
        ("higher", 0.5, 0.9, "yardstick 0.900, no worse than the floor"),
    ],
)
def test_yardstick_gives_the_scale(direction: str, value: float, yardstick: float, expected: str) -> None:
    floor = {"value": 0.1, "low": 0.0, "high": 0.2}
    result = {"value": value, "floor": floor, "direction": direction, "yardstick": {"value": yardstick, "what": "blur"}}
    assert yardstick_words(result) == expected
    assert yardstick_words({**result, "yardstick": None}) is None


def test_reasons_that_differ_in_a_number_are_told_once(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", kimg=10)
    fidelity = read_json(run.evaluation / "fidelity.json")
    for n, results in enumerate(fidelity["spaces"]["pca"]["classes"].values()):
        for metric in results:
            results[metric] = {"kind": "withheld", "reason": f"{n + 3} test images; too few"}
    write_json(run.evaluation / "fidelity.json", fidelity)
    (space,) = [space for space in space_views(fidelity) if space.name == "pca"]
    assert space.by_class is not None
    assert space.by_class.left_out == [
        ("KID, FD, Precision, Recall, Density, Coverage, Inception Score", "3 to 6 test images; too few")
    ]
    assert "3 to 6 test images; too few" in pages_of(run, dataset)[0]


def test_near_duplicates_are_shown_in_private_only(pages: Pages) -> None:
    assert "correlation 0.99" in pages.private or "correlation 1.00" in pages.private
    assert "correlation" not in pages.public


def test_names_from_outside_are_never_markup(tmp_path: Path) -> None:
    classes = ("<b>x</b>", 'a"><script>alert(1)</script>', "`c` | [d](e)", "nevus")
    run, dataset = make_run(tmp_path / "run", classes=classes, kimg=10)
    fidelity = read_json(run.evaluation / "fidelity.json")
    fidelity["warnings"] = ["<img src=x onerror=alert(1)>"]
    fidelity["spaces"]["randconv"]["title"] = "<i>space</i>"
    write_json(run.evaluation / "fidelity.json", fidelity)
    for page in pages_of(run, dataset):
        parsed = seen(page)
        assert not {"b>", "script", "i"} & set(parsed.tags)
        assert not parsed.handlers
        assert "&lt;b&gt;x&lt;/b&gt;" in page
        assert "<b>x</b>" not in page
        assert "onerror=alert(1)&gt;" in page
    card = model_card(run)
    outside_code = re.sub(r"```.*?```|`[^`\n]*`", "", card, flags=re.S)
    assert "&lt;b&gt;x&lt;/b&gt;" in outside_code
    assert not re.search(r"<(?:b|script|img|i)\b", outside_code)
    table = [line for line in card.splitlines() if line.startswith(r"| \`c\`")]
    assert len(re.findall(r"(?<!\\)\|", table[0])) == 5, "a class name opens no cell of its own"


def test_nothing_but_a_recipe_and_data(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", trained=False, evaluated=False)
    for page in pages_of(run, dataset):
        for phrase in (
            "has not been trained",
            "was not measured yet",
            "no evaluated images yet",
            "No training statistics",
            "No grid of samples",
        ):
            assert phrase in page
    with pytest.raises(ModelError, match="no model yet"):
        model_card(run)


def test_trained_but_not_measured(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", evaluated=False, validated=False, kimg=10)
    public, private = pages_of(run, dataset)
    assert "It has not been measured" in public
    assert "it takes at least 16 validation images" in public
    assert "none evaluated yet" in private
    assert "No neighbours were looked for yet" in private
    assert "Not measured yet" in model_card(run)


def test_volumes_without_classes(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", classes=(), channels=1, size=(8, 10, 12), kimg=10)
    public, private = pages_of(run, dataset)
    assert "8 × 10 × 12 voxels, grey" in public
    assert "without classes" in public
    assert "A DCGAN makes" in public
    assert "By class" not in public
    assert not any(holds_mark(picture) for picture in pictures_in(public))
    assert any(holds_mark(picture) for picture in pictures_in(private))
    assert "--class" not in model_card(run)


def test_everything_withheld(tmp_path: Path) -> None:
    reason = "fewer than three groups: there is no independent reference"
    run, dataset = make_run(tmp_path / "run", withhold=reason, kimg=10)
    public, _ = pages_of(run, dataset)
    assert "Its measurements are withheld" in public
    assert public.count(reason) >= 2
    assert "withheld in every class" not in public
    assert reason in model_card(run)


def test_without_the_dataset_the_rest_is_shown(pages: Pages, tmp_path: Path) -> None:
    run, _ = make_run(tmp_path / "run", kimg=10)
    public, private = pages_of(run, None)
    assert "The dataset was not at hand" in public
    assert '<th scope="row">melanoma</th>' in public, "counts are known from the model"
    assert "no real image can be shown" in private
    assert not any(holds_mark(picture) for picture in pictures_in(private))


def test_a_class_without_synthetic_or_real_images_is_said(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", kimg=10)
    with np.load(run.evaluation / "synthetic.npz", allow_pickle=False) as arrays:
        keep = arrays["labels"] != 1
        images, labels = arrays["images"][keep], arrays["labels"][keep]
    np.savez(run.evaluation / "synthetic.npz", images=images, labels=labels)
    public, private = pages_of(run, dataset)
    assert "The evaluated set holds none of this class." in public
    assert "none evaluated yet" in private


def test_a_large_animation_is_named_instead_of_inlined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, dataset = make_run(tmp_path / "run", evaluated=False, kimg=10)
    assert "data:image/gif" in pages_of(run, dataset)[0]
    monkeypatch.setattr("synthoma.report.images.LARGEST_GIF", 100)
    public, _ = pages_of(run, dataset)
    assert "data:image/gif" not in public
    assert "samples/progress.gif is too large" in public


def test_damaged_files_are_named(tmp_path: Path) -> None:
    run, dataset = make_run(tmp_path / "run", kimg=10)
    (run.evaluation / "synthetic.npz").write_bytes(b"not an archive")
    with pytest.raises(SynthomaError, match=r"synthetic\.npz is damaged"):
        write_report(run, dataset)
    (run.evaluation / "synthetic.npz").unlink()
    (run.evaluation / "fidelity.json").write_text("{")
    with pytest.raises(SynthomaError, match=r"fidelity\.json is damaged"):
        write_report(run, dataset)
    run.recipe_file.unlink()
    with pytest.raises(SynthomaError, match=r"recipe\.yaml is missing"):
        write_report(run, dataset)


def test_the_same_files_give_the_same_pages(pages: Pages) -> None:
    assert pages_of(pages.run, pages.dataset) == (pages.public, pages.private)


def test_model_card_has_what_a_card_needs(pages: Pages) -> None:
    card = model_card(pages.run)
    for heading in ("Intended use", "How to generate", "Data", "Training", "Evaluation", "Limits", "Provenance"):
        assert f"\n## {heading}\n" in card
    for phrase in (
        "not for diagnosis",
        "CC-BY-NC-4.0",
        "c0ffee00c0ffee00",
        "9b" * 32,
        "--class basal_cell_carcinoma",
        "`vascular_lesion`",
    ):
        assert phrase in card
    assert "| KID | lower | 0.182 | 0.151 – 0.213 | 0.002 | −0.010 – 0.014 |" in card
    assert "The rarest class in training is vascular lesion" in card
    assert not re.search(r"\bG\d{5}\b|/home/", card)


def test_classes_of_the_fixture_are_shown_in_words(pages: Pages) -> None:
    for name in CLASSES:
        assert f"<h3>{name.replace('_', ' ')}</h3>" in pages.public
