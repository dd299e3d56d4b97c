// What a user probably did wrong about a path, and the way out, for the messages of file_posix.cc.
#pragma once

#include <string>

namespace q4 {

// What a path that does not exist was meant for: the name of a model on a hub, "organisation/model", where no such
// directory exists either, or a URL. "" where it looks like a path, else begins with "; ".
std::string WhyMissing(const std::string& path);

// The folder that is in the way where `path` cannot be made or looked at for `error`, an errno; or the name that is too
// long. "" for other errors,
// else begins with "; ".
std::string WhyNot(const std::string& path, int error);

}  // namespace q4
