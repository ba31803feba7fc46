"""The picture of clusters: which frames stand for each, and that all are there."""

import numpy as np

from stavatar.evaluation.drawing.canvas import palette
from stavatar.evaluation.drawing.clusters import Clusters, _about, draw_clusters, sample_frames

CLUSTERS = Clusters(
    frames=[3, 5, 6, 7, 8, 9, 12, 13],
    cluster=[0, 1, 0, 0, 0, 0, 0, 2],
    scatter=[(float(k), float(-k)) for k in range(8)],
    silhouette={2: 0.1, 3: 0.25},
    chosen=3,
)


def test_samples_are_spread_over_a_clusters_time():
    assert sample_frames(CLUSTERS, 0) == [2, 4, 6]  # of the places 0, 2, 3, 4, 5, 6: the middle of each third
    assert sample_frames(CLUSTERS, 1) == [1]
    long = Clusters(list(range(90)), [0] * 90, [(0.0, 0.0)] * 90, {}, 1)
    assert sample_frames(long, 0) == [15, 45, 75]


def test_frames_of_every_cluster_are_shown_in_its_colour():
    asked = []

    def picture(frame):
        asked.append(frame)
        return np.full((20, 20, 3), 90, np.uint8)

    drawn = draw_clusters(CLUSTERS, picture, title="talk")
    assert sorted(asked) == [5, 6, 8, 12, 13]
    found = {colour for _, colour in drawn.getcolors(drawn.width * drawn.height)}
    assert set(palette(3)) <= found
    assert (90, 90, 90) in found


def test_the_choice_of_their_number_is_told():
    assert _about(CLUSTERS).splitlines()[1] == "2: 0.100   3: 0.250"
    assert "without a choice" in _about(Clusters([0], [0], [(0.0, 0.0)], {}, 1))
