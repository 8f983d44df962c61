"""If this fails, comparisons that should use the same images use different ones."""

import json

import pytest
from small_images import folder_of

from metrics.compare.style.pairs import (
    DRAWN_STYLES,
    ImageNames,
    choose_pairs,
    pairs_to_json,
    read_pairs,
    spread_names,
)


@pytest.fixture
def folders(tmp_path):
    contents = folder_of(tmp_path / "photos", [f"{i:02}.png" for i in range(45)])
    first = folder_of(tmp_path / "paintings", [f"p{i:02}.png" for i in range(30)])
    second = folder_of(tmp_path / "textures", ["p00.png", "sub/t1.png", "t2.png"])
    return contents, first, second


def test_names_are_spread_evenly_and_folders_take_equal_parts(folders):
    contents, first, second = folders
    pairs = choose_pairs(ImageNames([contents]), ImageNames([second, first]))
    assert len(pairs.contents) == 20
    assert (pairs.contents[0], pairs.contents[-1]) == ("01.png", "43.png")
    # All three textures are taken, and paintings fill the rest.
    assert pairs.styles[:3] == ("textures/p00.png", "sub/t1.png", "t2.png")
    assert len(pairs.styles) == 20
    assert pairs.rotation_contents == tuple(spread_names(pairs.contents, 3))
    assert pairs.drawn_styles == tuple((name, 0) for name in DRAWN_STYLES)
    assert spread_names("abc", 5) == ["a", "b", "c"]
    assert spread_names("abcdef", 2) == ["b", "e"]


def test_a_list_is_read_back_as_it_was_written_and_finds_the_same_files(folders, tmp_path):
    contents, first, second = folders
    styles = ImageNames([first, second])
    pairs = choose_pairs(ImageNames([contents]), styles)
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(pairs_to_json(pairs)))
    assert read_pairs(file) == pairs
    assert styles.find(["textures/p00.png", "paintings/p00.png", "sub/t1.png"]) == [
        second / "p00.png",
        first / "p00.png",
        second / "sub/t1.png",
    ]
    with pytest.raises(ValueError, match=r"2 images of the list .* first p00\.png"):
        styles.find(["p00.png", "t2.png", "no.png"])


def test_a_list_of_contents_and_styles_alone_is_completed(tmp_path):
    file = tmp_path / "pairs.json"
    file.write_text('{"contents": ["a.png", "b.png"], "styles": ["c.png"]}')
    pairs = read_pairs(file)
    assert (pairs.contents, pairs.styles) == (("a.png", "b.png"), ("c.png",))
    assert pairs.rotation_contents == ("a.png", "b.png")
    assert pairs.rotation_styles is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"contents": ["a"]}',
        '{"contents": [1], "styles": ["b"]}',
        '{"contents": 3}',
    ],
)
def test_what_is_no_list_is_refused_by_name(tmp_path, text):
    file = tmp_path / "odd.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"odd\.json is no list of pairs"):
        read_pairs(file)


def test_an_empty_list_and_two_folders_of_one_name_are_refused(tmp_path):
    file = tmp_path / "pairs.json"
    file.write_text('{"contents": [], "styles": ["b"]}')
    with pytest.raises(ValueError, match="0 contents and 1 styles"):
        read_pairs(file)
    one, other = (folder_of(tmp_path / parent / "same", ["a.png"]) for parent in ("x", "y"))
    with pytest.raises(ValueError, match=r"two folders 'same' both hold same/a\.png"):
        ImageNames([one, other])
