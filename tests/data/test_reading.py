import threading

import cv2
import pytest

from keras_deit.data.reading import (
    AHEAD,
    UnreadableImages,
    read_images,
    too_many_unreadable,
    try_read,
    use_one_opencv_thread,
)
from keras_deit.utils.errors import Unreadable, UserError


def read(item):
    if item % 5 == 3:
        raise Unreadable(f"item {item} is corrupt")
    if item % 5 == 4:
        raise FileNotFoundError(2, "No such file or directory")
    return item * item


@pytest.mark.parametrize("workers", [None, 1, 3])
def test_images_come_in_order_and_unreadable_ones_with_a_reason(workers):
    results = list(read_images(read, range(3 * AHEAD), workers))
    assert [item for item, _, _ in results] == list(range(3 * AHEAD))
    for item, value, reason in results:
        expected = [None, None, None, f"item {item} is corrupt", "No such file or directory"]
        assert reason == expected[item % 5]
        assert value == (None if reason else item * item)
    assert list(read_images(read, [], workers)) == []


def test_only_a_bounded_number_is_read_ahead():
    taken = []

    def items():
        for item in range(10 * AHEAD):
            taken.append(item)
            yield item

    results = read_images(lambda item: item, items())
    for count in range(1, 20):
        next(results)
        assert len(taken) <= AHEAD + count
    results.close()
    assert len(taken) <= AHEAD + 19


def test_other_errors_end_the_reading_and_its_threads():
    def fail(item):
        raise UserError("the dataset is gone")

    before = threading.active_count()
    with pytest.raises(UserError, match="the dataset is gone"):
        list(read_images(fail, range(1000)))
    assert threading.active_count() == before


def test_an_error_without_text_from_the_system_has_its_own():
    def fail(item):
        raise OSError("the disk is gone")

    assert try_read(fail, 0) == (None, "the disk is gone")


def test_workers_keep_opencv_to_one_thread():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        ((_, inside, _),) = read_images(lambda _: cv2.getNumThreads(), [0])
        cv2.setNumThreads(2)
        use_one_opencv_thread()
        assert inside == cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(threads)


def test_unreadable_images_are_warned_of_once_and_limited():
    unreadable = UnreadableImages("train", allowed=1)
    with pytest.warns(UserWarning, match=r"^a.jpg: corrupt: skipped \(1 unreadable so far in tr"):
        unreadable.add(7, "a.jpg: corrupt")
    unreadable.add(7, "a.jpg: corrupt")  # a warning is an error here
    for _ in range(2):  # and each time, so that a second pass does not skip them silently
        with pytest.raises(UserError, match=r"2 unreadable images, the last one b.jpg: corrupt"):
            unreadable.add(9, "b.jpg: corrupt")
    assert unreadable.reasons == {7: "a.jpg: corrupt", 9: "b.jpg: corrupt"}


def test_the_first_unreadable_image_is_the_error_if_none_is_allowed():
    assert str(too_many_unreadable(1, "a.jpg: corrupt", 0)) == "a.jpg: corrupt"
