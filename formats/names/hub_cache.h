// The cache of huggingface_hub, in which every file of a model is a symbolic link:
//   models--org--name/snapshots/<revision>/1_Dense/config.json -> ../../../../blobs/<hash>
// Such a link leads from a snapshot into the blobs of the same repository, so following it reaches nothing that the
// repository does not hold. Every other link might lead anywhere on the machine.
//
// Newer versions keep blobs that several repositories share in one store of the cache, and the repository's blob is a
// second link: models--org--name/blobs/<hash> -> ../../blobs/ab/<64 hexadecimal digits, the first two "ab">.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// The file that the symbolic link at `path` stands for, "" unless the link is one of a hub cache as described above.
// What decides is where the link lies, all links in the directories before it resolved (so a snapshot may be reached by
// any path), and the text of the link: relative, up to the repository, "blobs/", a plain name. The result's last
// component may be absent, when a download is not complete, but is no link, and the directories before it are none, nor
// are `blobs` and the shared store. It is opened with SymbolicLinks::kNever, so that what was judged is what is read.
// Errors: I/O.
absl::StatusOr<std::string> HubCacheFile(FileSystem& fs, const std::string& path);

// Whether the symbolic link at `path` may be followed under `links`: OK, or kSymbolicLink (exit code 3).
absl::Status MayFollow(FileSystem& fs, const std::string& path, SymbolicLinks links);

}  // namespace q4
