// page.css and page.js of this folder, as the build embeds them (cmake/q4_embed_text.cmake). Internal to
// libconvert/report/.
//
// Both are put into the page byte for byte, and their SHA-256 stands in its Content-Security-Policy. They must hold
// neither "</style" nor "</script".
#pragma once

#include <string_view>

namespace q4::html {

extern const std::string_view kPageCss;
extern const std::string_view kPageJs;

}  // namespace q4::html
