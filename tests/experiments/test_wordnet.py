"""Paths, depths and common ancestors of a WordNet file are those found by hand.

entity - thing - animal - dog - poodle          the poodle is also a pet, two steps from thing:
               \\        \\ cat                       thing - pet - poodle
                plant - rose - Alba (an instance)
"""

import numpy as np
import pytest

import slt_notebook as slt
from slt_notebook.experiments.imagenet.wordnet import read_wordnet

FILE = """\
  1 This line stands for the licence.
00000001 03 n 01 entity 0 001 ~ 00000002 n 0000 | that which exists
00000002 03 n 02 thing 0 it 0 003 @ 00000001 n 0000 ~ 00000003 n 0000 ~ 00000007 n 0000 | a
00000003 03 n 0a animal 0 beast 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 @ 00000002 n 0000 | ten words
00000004 05 n 01 dog 0 002 @ 00000003 n 0000 -c 00000009 v 0000 | barks | at night
00000005 05 n 01 cat 0 001 @ 00000003 n 0000 | does not
00000006 05 n 01 toy_poodle 0 002 @ 00000004 n 0000 @ 00000009 n 0000 | curly
00000007 20 n 01 plant 0 001 @ 00000002 n 0000 | grows
00000008 20 n 01 rose 0 001 @ 00000007 n 0000 | a rose
00000009 05 n 01 pet 0 001 @ 00000002 n 0000 | kept
00000010 20 n 01 Alba 0 001 @i 00000008 n 0000 | an instance
"""


@pytest.fixture
def small(tmp_path):
    (tmp_path / "data.noun").write_text(FILE)
    return read_wordnet(tmp_path)


def id_(number):
    return f"n{number:08d}"


DOG, CAT, POODLE, ROSE, ALBA = map(id_, (4, 5, 6, 8, 10))


def test_lines_are_read(small):
    assert len(small.synsets) == 10
    assert small[id_(3)].words[:2] == ("animal", "beast") and len(small[id_(3)].words) == 10
    assert small[POODLE].words == ("toy poodle",)
    assert small[POODLE].hypernyms == (DOG, id_(9))
    assert small[ALBA].hypernyms == (ROSE,)


@pytest.mark.parametrize(
    "a, b, similarity, ancestor",
    [
        (DOG, DOG, 1, 4), (DOG, CAT, 1 / 3, 3), (POODLE, CAT, 1 / 4, 3), (DOG, ROSE, 1 / 5, 2),
        (POODLE, ROSE, 1 / 5, 2),  # by the pet: 2 + 2 steps, not by the dog: 3 + 2
        (ALBA, ROSE, 1 / 2, 8), (POODLE, DOG, 1 / 2, 4), (POODLE, id_(9), 1 / 2, 9),
    ],
)  # fmt: skip
def test_paths_by_hand(small, a, b, similarity, ancestor):
    for one, other in ((a, b), (b, a)):
        assert small.path_similarity(one, other) == pytest.approx(similarity)
        assert small.common_ancestor(one, other) == id_(ancestor)


def test_depths_by_hand(small):
    assert [small.depth(id_(k)) for k in (1, 2, 3, 4, 6, 9, 10)] == [0, 1, 2, 3, 3, 2, 4]
    assert small.chain(POODLE) == [id_(k) for k in (1, 2, 3, 4, 6)]
    alike, depth = small.similarities([DOG, ROSE, DOG])
    assert np.allclose(alike, [[1, 0.2, 1], [0.2, 1, 0.2], [1, 0.2, 1]])
    assert depth.tolist() == [[3, 1, 3], [1, 3, 1], [3, 1, 3]]


def test_what_is_missing_is_said(tmp_path, small):
    with pytest.raises(slt.InputError, match="wordnet-base"):
        read_wordnet(tmp_path / "nowhere")
    with pytest.raises(slt.InputError, match="one of 10 nouns"):
        small[id_(99)]
    (tmp_path / "data.noun").write_text(FILE.replace("0 001 ~ 00000002 n 0000", "0 003"))
    with pytest.raises(slt.InputError, match="line 2"):
        read_wordnet(tmp_path)
