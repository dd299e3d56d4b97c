// URLs in texts that are shown. Whoever gives one with a password or a signature, also where none is read or by
// mistake, finds neither in a message, and so neither in the log of a cluster.
#pragma once

#include <string>
#include <string_view>

namespace q4 {

// Whether `name`, the first of an hf:// path, is a token of the hub and no model: long and of letters and digits only,
// perhaps behind "hf_" or "api_".
bool LooksLikeHubToken(std::string_view name);

// `text` with what may be secret in the URLs of it as "***": user and password before the server, and the query. A text
// without "://" comes back as it is. Of hf:// a name before '@' stays, which has a revision: "hf://gpt2@main", unless
// it looks like a token. `about`: a text whose secrets are hidden in `text` too, which may show a part of its URL, such
// as the last name.
std::string WithoutUrlSecrets(std::string_view text, std::string_view about = {});

}  // namespace q4
