// The rules checked in formats/net. What a local file can break too has its issue in base_issues.h: an absent file is
// kCannotOpen, a file that changes while it is read kFileChanged.
#pragma once

#include "formats/base/status.h"

namespace q4 {

inline constexpr Issue kBadUrl{1320, ExitCode::kUsage, "not a URL that can be read"};
// What comes over http:// anybody on the way may exchange, and a token that goes over it anybody may read.
inline constexpr Issue kInsecureUrl{
    1321, ExitCode::kUsage,
    "http:// is read from this machine itself only; use https://, or set Q4_ALLOW_HTTP=1 "
    "where the network is trusted"};
inline constexpr Issue kOutputIsUrl{1322, ExitCode::kUsage,
                                    "outputs are files; write to a folder and copy what is finished"};
// An environment variable that says how to reach a server, and cannot mean anything.
inline constexpr Issue kBadNetSetting{1323, ExitCode::kUsage, "not a setting of the network"};

// After retries, where retrying may help.
inline constexpr Issue kServerFailed{2320, ExitCode::kIo, "cannot read from the server"};
// 401 and 403: the credentials, or none.
inline constexpr Issue kAccessDenied{2321, ExitCode::kIo, "the server denies access"};
// A bucket says the same of an object that is not there to whoever may not list it.
inline constexpr Issue kDeniedOrAbsent{2324, ExitCode::kIo, "the bucket denies access, or has no such object"};
// To another scheme than https, or too many in a row.
inline constexpr Issue kBadRedirect{2322, ExitCode::kIo, "the server redirects to where nothing may be read"};
inline constexpr Issue kNetInterrupted{2323, ExitCode::kInterrupted, "interrupted while waiting for the server"};

// An answer that contradicts itself or the question: another range, a listing that is none.
inline constexpr Issue kBadReply{3320, ExitCode::kInvalidInput, "the server's answer cannot be right"};
inline constexpr Issue kListingTooLarge{3321, ExitCode::kInvalidInput,
                                        "the server lists more files than any model has"};

// A page for people: of a login, a portal, or a site that has one for each name.
inline constexpr Issue kPageForFile{3322, ExitCode::kInvalidInput,
                                    "the server sends a page (HTML) in place of the file"};

// Without libcurl on the machine, or its header when q4 was built.
inline constexpr Issue kNoNetwork{5320, ExitCode::kUnsupported, "URLs cannot be read here"};
inline constexpr Issue kNoRanges{
    5321, ExitCode::kUnsupported,
    "the server sends no part of a file (HTTP ranges), so that a large file cannot be read "
    "from it; download the model first"};
// Plain https has no listing; what a folder of a pipeline holds is not known there.
inline constexpr Issue kCannotListUrl{5322, ExitCode::kUnsupported,
                                      "a pipeline cannot be read from a plain URL, as its folders cannot be listed; "
                                      "download it first, or use hf:// or s3://"};

}  // namespace q4
