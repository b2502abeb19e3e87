"""The four ways to change a part of an object, and the record of who wrote which field.

| media type | function | authority |
|---|---|---|
| application/json-patch+json | json_patch | RFC 6902 |
| application/merge-patch+json | merge_patch | RFC 7386 |
| application/strategic-merge-patch+json | strategic_merge_patch | Kubernetes' page on updating objects in place |
| application/apply-patch+yaml | apply | Kubernetes' page on server-side apply |

All are pure: none changes its arguments; results may share parts with them. What cannot be applied raises StatusError.
"""

from ostria.kubeapi.patches.apply import apply, track
from ostria.kubeapi.patches.schemaless import json_patch, merge_patch
from ostria.kubeapi.patches.strategic import strategic_merge_patch

__all__ = ["apply", "json_patch", "merge_patch", "strategic_merge_patch", "track"]
