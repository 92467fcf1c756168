"""A package index on 127.0.0.1, with wheels and source distributions that tests make."""

import hashlib
import json
import re
from dataclasses import dataclass, field

from src.sources.synthesis.packages import Member, Package
from tests.helpers.make_artifact import tar_of, zip_of
from tests.helpers.servers import Answer, Request, part_of


@dataclass
class Index:
    """Answers as an index does; `ranges` says whether it serves parts of files."""

    files: dict[str, bytes] = field(default_factory=dict)  # by file name
    ranges: bool = True

    def add(self, package: str, members: dict[str, bytes], *, sdist: bool = False) -> Package:
        """Publish version 1.0 of `package` with these files."""
        name = package.replace("-", "_")
        file = f"{name}-1.0.tar.gz" if sdist else f"{name}-1.0-py3-none-any.whl"
        self.files[file] = tar_of(members, mode="w:gz") if sdist else zip_of(members)
        return Package(package, "1.0", hashlib.sha256(self.files[file]).hexdigest(), "MIT")

    def __call__(self, request: Request) -> Answer:
        """Answer one request."""
        folder, _, name = request.path.strip("/").rpartition("/")
        if folder == "files":
            return self._part(self.files[name], request)
        project = request.path.strip("/").removeprefix("simple/").replace("-", "_")
        files = [
            {
                "filename": file,
                "url": f"/files/{file}",
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            }
            for file, data in self.files.items()
            if file.startswith(f"{project}-")
        ]
        if not files:
            return Answer(404)
        page = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
        kind = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
        return Answer(200, json.dumps(page).encode(), kind)

    def _part(self, data: bytes, request: Request) -> Answer:
        suffix = re.fullmatch(r"bytes=-(\d+)", request.headers.get("range", ""))
        if suffix and self.ranges:
            begin = max(0, len(data) - int(suffix[1]))
            where = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
            return Answer(206, data[begin:], where)
        return part_of(data, request, ranges=self.ranges)


def member(package: Package, path: str, data: bytes) -> Member:
    """Return the pin of a file in `package`."""
    return Member(package.package, path, hashlib.sha256(data).hexdigest(), len(data))
