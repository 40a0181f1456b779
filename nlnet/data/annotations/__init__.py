"""Which videos there are and what they show: one file per published form. Wrong lists are refused with file and line.

Labels are integers from 0; a video that shows several things, or none, has a tuple of them.
"""

from nlnet.data.annotations.folders import from_folder
from nlnet.data.annotations.lists import from_lists, read_list
from nlnet.data.annotations.records import Action, Annotations, Label, Video, VideoList, find_missing
from nlnet.data.annotations.video_files import VIDEO_EXTENSIONS

__all__ = [
    "VIDEO_EXTENSIONS",
    "Action",
    "Annotations",
    "Label",
    "Video",
    "VideoList",
    "find_missing",
    "from_folder",
    "from_lists",
    "read_list",
]
