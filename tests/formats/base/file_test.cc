#include "formats/base/file.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "formats/base/base_issues.h"
#include "formats/base/status.h"
#include "formats/base/system_text.h"
#include "formats/posix/path_hints.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/memory_file_system.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

using test::AsBytes;
using test::TempDir;

template <typename T>
int IssueOf(const absl::StatusOr<T>& result) {
  return IssueNumberOf(result.status());
}

TEST_CASE("reading: content, size, short files") {
  const TempDir dir;
  const auto file = PosixFileSystem().OpenForRead(dir.Write("f", "0123456789"));
  REQUIRE(file.ok());
  CHECK((*file)->size() == 10);
  CHECK((*file)->path() == dir.File("f"));
  std::vector<std::uint8_t> out(4);
  REQUIRE((*file)->ReadAt(3, out).ok());
  CHECK(std::memcmp(out.data(), "3456", 4) == 0);
  (*file)->Prefetch(0, 10);
  CHECK((*file)->ReadAt(10, {}).ok());

  for (const std::uint64_t offset : {std::uint64_t{7}, std::uint64_t{11}, ~std::uint64_t{0}}) {
    const absl::Status status = (*file)->ReadAt(offset, out);
    CHECK(IssueNumberOf(status) == kFileEndsEarly.number);
    CHECK(ExitCodeOf(status) == ExitCode::kInvalidInput);
  }
}

TEST_CASE("reading past the page cache: the same content, also at the end of the file") {
  const TempDir dir;
  std::string content(5 * kUncachedAlignment + 100, ' ');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7 + i / 256);
  const auto file = PosixFileSystem().OpenForRead(dir.Write("f", content));
  REQUIRE(file.ok());
  alignas(kUncachedAlignment) static std::uint8_t out[4 * kUncachedAlignment];
  REQUIRE((*file)->ReadUncached(kUncachedAlignment, out).ok());
  CHECK(std::memcmp(out, content.data() + kUncachedAlignment, sizeof out) == 0);
  REQUIRE((*file)->ReadUncached(4 * kUncachedAlignment, out).ok());
  CHECK(std::memcmp(out, content.data() + 4 * kUncachedAlignment, kUncachedAlignment + 100) == 0);
  CHECK(IssueNumberOf((*file)->ReadUncached(6 * kUncachedAlignment, out)) == kFileEndsEarly.number);
  std::filesystem::resize_file(dir.File("f"), 2 * kUncachedAlignment);
  CHECK(IssueNumberOf((*file)->ReadUncached(kUncachedAlignment, out)) == kFileEndsEarly.number);
}

TEST_CASE("a file system that cannot read past the cache reads through it") {
  MemoryFileSystem fs;
  fs["f"] = test::Bytes(kUncachedAlignment + 3, 7);
  const auto file = fs.OpenForRead("f");
  REQUIRE(file.ok());
  std::vector<std::uint8_t> out(kUncachedAlignment);
  REQUIRE((*file)->ReadUncached(kUncachedAlignment, out).ok());
  CHECK((out[2] == 7 && out[3] == 0));
  CHECK_FALSE((*file)->ReadUncached(2 * kUncachedAlignment, out).ok());
}

TEST_CASE("a file cut short while it is read is an error, and no signal") {
  const TempDir dir;
  const std::string path = dir.Write("f", std::string(100'000, 'x'));
  const auto file = PosixFileSystem().OpenForRead(path);
  REQUIRE(file.ok());
  REQUIRE((*file)->CheckUnchanged().ok());
  std::filesystem::resize_file(path, 50'000);
  std::vector<std::uint8_t> out(100'000);
  CHECK(IssueNumberOf((*file)->ReadAt(0, out)) == kFileEndsEarly.number);
  CHECK(IssueNumberOf((*file)->CheckUnchanged()) == kFileChanged.number);
}

TEST_CASE("X12: a file of another size has changed, whatever time it bears") {
  const TempDir dir;
  const std::string path = dir.Write("f", "abc");
  const auto time = std::filesystem::last_write_time(path);
  const auto file = PosixFileSystem().OpenForRead(path);
  REQUIRE(file.ok());
  std::filesystem::resize_file(path, 4);
  std::filesystem::last_write_time(path, time);
  const absl::Status status = (*file)->CheckUnchanged();
  CHECK(IssueNumberOf(status) == kFileChanged.number);
  CHECK(MessageOf(status).find("size") != std::string::npos);
}

TEST_CASE("X12: a file of the same size with another time has changed") {
  const TempDir dir;
  const std::string path = dir.Write("f", "abc");
  const auto file = PosixFileSystem().OpenForRead(path);
  REQUIRE(file.ok());
  std::filesystem::last_write_time(path, std::filesystem::last_write_time(path) + std::chrono::seconds(1));
  const absl::Status status = (*file)->CheckUnchanged();
  CHECK((*PosixFileSystem().OpenForRead(path))->version() == *(*file)->VersionNow());
  CHECK(IssueNumberOf(status) == kFileChanged.number);
  CHECK(MessageOf(status).find("input changed while reading") != std::string::npos);
  CHECK(MessageOf(status).find("time of modification") != std::string::npos);
}

TEST_CASE("a place is a name in a folder, however that is reached") {
  const TempDir dir;
  dir.Write("a", "a");
  dir.Write("b", "b");
  dir.Write("sub/a", "a");
  std::filesystem::create_directory_symlink("sub", dir.File("link"));
  const auto same = [&](const std::string& one, const std::string& other) {
    return test::Must(SamePlace(PosixFileSystem(), dir.File(one), dir.File(other)));
  };
  CHECK(same("a", "sub/../a"));
  CHECK(same("sub/new", "link/new"));
  CHECK_FALSE(same("a", "b"));
  CHECK_FALSE(same("a", "sub/a"));
  CHECK_FALSE(same("none/a", "none/a"));
}

TEST_CASE("a file system that goes by path holds directories, and nothing else") {
  class ByPath final : public test::ForwardingFileSystem {
   public:
    absl::StatusOr<std::unique_ptr<HeldDirectory>> Hold(const std::string& path) override {
      return FileSystem::Hold(path);
    }
  };
  const TempDir dir;
  dir.Write("file", "a");
  dir.Write("sub/file", "a");
  std::filesystem::create_directory_symlink("sub", dir.File("link"));
  ByPath fs;
  CHECK(test::Must(fs.Hold(dir.File("sub")))->identity() == test::Must(fs.Stat(dir.File("sub"))).identity);
  for (const char* name : {"file", "link", "none"}) {
    CHECK(IssueNumberOf(fs.Hold(dir.File(name)).status()) == kCannotStat.number);
  }
}

TEST_CASE("a version shows what a modification time that was put back hides") {
  const TempDir dir;
  const std::string path = dir.Write("f", "abc");
  const auto before = PosixFileSystem().OpenForRead(path);
  REQUIRE(before.ok());
  const auto time = std::filesystem::last_write_time(path);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // more than the clock of the file system's tick
  test::WriteBytes(path, "abd");
  std::filesystem::last_write_time(path, time);
  const auto after = PosixFileSystem().OpenForRead(path);
  REQUIRE(after.ok());
  CHECK(std::filesystem::last_write_time(path) == time);
  CHECK((*after)->version() != (*before)->version());
  CHECK(IssueNumberOf((*before)->CheckUnchanged()) == kFileChanged.number);
  CHECK((*after)->CheckUnchanged().ok());
}

TEST_CASE("a version is of the file itself, by whatever path, at open and by Stat()") {
  const TempDir dir;
  const std::string path = dir.Write("f", "abc");
  std::filesystem::create_symlink(path, dir.File("link"));
  const auto file = PosixFileSystem().OpenForRead(path);
  REQUIRE(file.ok());
  for (const std::string& name : {path, dir.File("link")}) {
    const auto info = PosixFileSystem().Stat(name);
    REQUIRE(info.ok());
    CHECK(info->version == (*file)->version());
    CHECK((*PosixFileSystem().OpenForRead(name))->version() == (*file)->version());
  }
  // Another file of the same content and time is another version, and so is one of another size.
  const std::string copy = dir.Write("copy", "abc");
  std::filesystem::last_write_time(copy, std::filesystem::last_write_time(path));
  CHECK((*PosixFileSystem().OpenForRead(copy))->version() != (*file)->version());
  CHECK((*PosixFileSystem().OpenForRead(dir.Write("longer", "abcd")))->version().size == 4);
}

TEST_CASE("X03: only regular files open, and nothing hangs") {
  const TempDir dir;
  REQUIRE(::mkfifo(dir.File("fifo").c_str(), 0600) == 0);
  const int sock = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, dir.File("sock").c_str(), sizeof(address.sun_path) - 1);
  REQUIRE(::bind(sock, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const std::pair<std::string, const char*> kPaths[] = {
      {dir.File("fifo"), "a FIFO"}, {dir.path(), "a directory"}, {"/dev/null", "a device"}, {dir.File("sock"), ""}};
  for (const auto& [path, kind] : kPaths) {
    INFO(path);
    const auto file = PosixFileSystem().OpenForRead(path);
    CHECK(IssueOf(file) == kNotARegularFile.number);
    CHECK(MessageOf(file.status()).find(kind) != std::string::npos);
    CHECK(ExitCodeOf(file.status()) == ExitCode::kInvalidInput);
    CHECK(IssueOf(PosixFileSystem().OpenLocked(path)) == kOutputNotARegularFile.number);
  }
  ::close(sock);
}

TEST_CASE("what looks like the name of a model on a hub is told from a path") {
  const TempDir dir;
  std::filesystem::create_directory(dir.File("here"));
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(dir.File(""));
  CHECK(WhyMissing("organisation/model").find("Hugging Face Hub") != std::string::npos);
  CHECK(WhyMissing("https://huggingface.co/organisation/model").find("no URL is read here") != std::string::npos);
  for (const char* path : {"here/model", "./organisation/model", "/organisation/model", "~/model", "model",
                           "organisation/", "a/b/c", ""}) {
    INFO(path);
    CHECK(WhyMissing(path).empty());
  }
  std::filesystem::current_path(before);
}

TEST_CASE("missing files and directories") {
  const TempDir dir;
  const auto file = PosixFileSystem().OpenForRead(dir.File("none"));
  CHECK(IssueOf(file) == kCannotOpen.number);
  CHECK(ExitCodeOf(file.status()) == ExitCode::kIo);
  CHECK(MessageOf(file.status()).find("No such file or directory") != std::string::npos);
  CHECK(IssueOf(PosixFileSystem().CreateExclusive(dir.File("none/f"))) == kCannotCreate.number);
  CHECK(IssueOf(PosixFileSystem().ListDirectory(dir.File("none"))) == kCannotList.number);
  const absl::Status synced = PosixFileSystem().SyncDirectory(dir.File("none"));
  CHECK(IssueNumberOf(synced) == kCannotSync.number);
  CHECK(MessageOf(synced).find("No such file or directory") != std::string::npos);
  CHECK(PosixFileSystem().Remove(dir.File("none")).ok());
}

TEST_CASE("symbolic links are followed or refused as asked") {
  const TempDir dir;
  dir.Write("target", "abc");
  std::filesystem::create_symlink("target", dir.File("link"));
  std::filesystem::create_symlink("nowhere", dir.File("dangling"));
  CHECK(PosixFileSystem().OpenForRead(dir.File("link")).ok());
  CHECK(IssueOf(PosixFileSystem().OpenForRead(dir.File("link"), SymbolicLinks::kRefuse)) == kSymbolicLink.number);
  CHECK(IssueOf(PosixFileSystem().OpenLocked(dir.File("link"))) == kOutputNotARegularFile.number);
  CHECK(test::ReadBytes(dir.File("target")) == "abc");

  const PathInfo link = *PosixFileSystem().Stat(dir.File("link"));
  CHECK((link.exists && link.is_symlink && link.is_regular && link.size == 3));
  CHECK(link.identity == PosixFileSystem().Stat(dir.File("target"))->identity);
  const PathInfo dangling = *PosixFileSystem().Stat(dir.File("dangling"));
  CHECK((!dangling.exists && dangling.is_symlink));
  CHECK_FALSE(PosixFileSystem().Stat(dir.File("none"))->exists);
  CHECK(PosixFileSystem().Stat(dir.path())->is_directory);

  std::filesystem::create_symlink("loop", dir.File("loop"));
  CHECK(IssueOf(PosixFileSystem().Stat(dir.File("loop"))) == kCannotStat.number);
  CHECK(IssueOf(PosixFileSystem().Stat(dir.File(std::string(300, 'x')))) == kCannotStat.number);
}

TEST_CASE("identity follows hard links") {
  const TempDir dir;
  const std::string path = dir.Write("a", "abc");
  std::filesystem::create_hard_link(path, dir.File("b"));
  dir.Write("c", "abc");
  const auto identity = [&](const char* name) { return (*PosixFileSystem().OpenForRead(dir.File(name)))->identity(); };
  CHECK(identity("a") == identity("b"));
  CHECK_FALSE(identity("a") == identity("c"));
}

TEST_CASE("writing: positions, reserve, truncate, sync") {
  const TempDir dir;
  auto file = PosixFileSystem().CreateExclusive(dir.File("out"));
  REQUIRE(file.ok());
  REQUIRE((*file)->Reserve(1 << 20).ok());
  CHECK(std::filesystem::file_size(dir.File("out")) == 0);
  REQUIRE((*file)->WriteAt(3, AsBytes("def")).ok());
  REQUIRE((*file)->WriteAt(0, AsBytes("abc")).ok());
  REQUIRE((*file)->WriteAt(6, AsBytes("ghi")).ok());
  (*file)->StartWriteback(0, 9);
  REQUIRE((*file)->Truncate(8).ok());
  REQUIRE((*file)->Sync().ok());
  REQUIRE((*file)->Close().ok());
  CHECK(test::ReadBytes(dir.File("out")) == "abcdefgh");
  CHECK(IssueOf(PosixFileSystem().CreateExclusive(dir.File("out"))) == kOutputExists.number);
  REQUIRE(PosixFileSystem().SyncDirectory(dir.path()).ok());
}

TEST_CASE("E07: a file size limit is an error with the system's words") {
  const TempDir dir;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  auto file = PosixFileSystem().CreateExclusive(dir.File("out"));
  REQUIRE(file.ok());
  const rlimit small{4096, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  // The first write is short, the second finds no room.
  const absl::Status status = (*file)->WriteAt(0, AsBytes(std::string(10'000, 'x')));
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(IssueNumberOf(status) == kCannotWrite.number);
  CHECK(ExitCodeOf(status) == ExitCode::kIo);
  CHECK(MessageOf(status).find("offset 4096: cannot write (File too large)") != std::string::npos);
}

TEST_CASE("E08: one writer at a time") {
  const TempDir dir;
  auto first = PosixFileSystem().OpenLocked(dir.File("out"));
  REQUIRE(first.ok());
  const auto second = PosixFileSystem().OpenLocked(dir.File("out"));
  CHECK(IssueOf(second) == kOutputInUse.number);
  CHECK(ExitCodeOf(second.status()) == ExitCode::kIo);
  REQUIRE((*first)->Close().ok());
  CHECK(PosixFileSystem().OpenLocked(dir.File("out")).ok());
}

// Closes what this process has open at `path` and returns how many descriptors that was.
int CloseBehindItsBack(const std::string& path) {
  int descriptors = 0;
  for (int fd = 3; fd < 256; ++fd) {
    std::error_code none;
    const auto target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), none);
    if (target != std::filesystem::canonical(path)) continue;
    ::close(fd);
    ++descriptors;
  }
  return descriptors;
}

TEST_CASE("a file that cannot be read or asked for its state is an error") {
  const TempDir dir;
  const auto file = PosixFileSystem().OpenForRead(dir.Write("f", "abc"));
  REQUIRE(file.ok());
  REQUIRE(CloseBehindItsBack(dir.File("f")) == 1);
  std::vector<std::uint8_t> out(3);
  CHECK(IssueNumberOf((*file)->ReadAt(0, out)) == kCannotRead.number);
  CHECK(IssueNumberOf((*file)->CheckUnchanged()) == kCannotStat.number);
}

TEST_CASE("a file that cannot be written, synced or closed is an error") {
  const TempDir dir;
  auto file = PosixFileSystem().CreateExclusive(dir.File("out"));
  REQUIRE(file.ok());
  // So close() fails as it does on a network file system whose server refuses the data.
  REQUIRE(CloseBehindItsBack(dir.File("out")) == 1);
  CHECK(IssueNumberOf((*file)->WriteAt(0, AsBytes("x"))) == kCannotWrite.number);
  CHECK(IssueNumberOf((*file)->Reserve(1)) == kCannotReserve.number);
  CHECK(IssueNumberOf((*file)->Truncate(0)) == kCannotResize.number);
  CHECK(IssueNumberOf((*file)->Sync()) == kCannotSync.number);
  const absl::Status status = (*file)->Close();
  CHECK(IssueNumberOf(status) == kCannotClose.number);
  CHECK(ExitCodeOf(status) == ExitCode::kIo);
}

TEST_CASE("what cannot be removed is an error, what is not there is none") {
  const TempDir dir;
  dir.Write("full/f", "x");
  CHECK(IssueNumberOf(PosixFileSystem().Remove(dir.File("full"))) == kCannotRemove.number);
  CHECK(IssueNumberOf(PosixFileSystem().RemoveDirectory(dir.File("full"))) == kCannotRemove.number);
  CHECK(PosixFileSystem().Remove(dir.File("full/f")).ok());
  CHECK(PosixFileSystem().RemoveDirectory(dir.File("full")).ok());
  CHECK(PosixFileSystem().Remove(dir.File("full/f")).ok());
  CHECK(PosixFileSystem().RemoveDirectory(dir.File("full")).ok());
}

TEST_CASE("rename replaces only when asked") {
  const TempDir dir;
  dir.Write("from", "new");
  dir.Write("to", "old");
  CHECK(IssueNumberOf(PosixFileSystem().Rename(dir.File("from"), dir.File("to"), false)) == kOutputExists.number);
  CHECK(test::ReadBytes(dir.File("to")) == "old");
  REQUIRE(PosixFileSystem().Rename(dir.File("from"), dir.File("to"), true).ok());
  CHECK(test::ReadBytes(dir.File("to")) == "new");
  REQUIRE(PosixFileSystem().Rename(dir.File("to"), dir.File("fresh"), false).ok());
  CHECK(dir.Count() == 1);
  CHECK(IssueNumberOf(PosixFileSystem().Rename(dir.File("none"), dir.File("x"), true)) == kCannotRename.number);
  // The error of file systems that know no such rename, and what comes instead refuses a directory.
  dir.Write("d/f", "x");
  const absl::Status into_itself = PosixFileSystem().Rename(dir.File("d"), dir.File("d/sub"), false);
  CHECK(IssueNumberOf(into_itself) == kCannotRename.number);
  CHECK(MessageOf(into_itself).find(std::generic_category().message(EINVAL)) != std::string::npos);
  CHECK(test::ReadBytes(dir.File("d/f")) == "x");
}

TEST_CASE("directories: create, list sorted") {
  const TempDir dir;
  REQUIRE(PosixFileSystem().CreateDirectory(dir.File("d")).ok());
  CHECK(IssueNumberOf(PosixFileSystem().CreateDirectory(dir.File("d"))) == kOutputExists.number);
  CHECK(IssueNumberOf(PosixFileSystem().CreateDirectory(dir.File("x/y"))) == kCannotCreateDirectory.number);
  for (const char* name : {"b", "a", "Z", ".hidden"}) dir.Write(name, "");
  CHECK(*PosixFileSystem().ListDirectory(dir.path()) == std::vector<std::string>{".hidden", "Z", "a", "b", "d"});
}

TEST_CASE("ReadWholeFile keeps its limit") {
  const TempDir dir;
  const std::string path = dir.Write("f", "0123456789");
  CHECK(*ReadWholeFile(PosixFileSystem(), path, 10) == "0123456789");
  CHECK(IssueOf(ReadWholeFile(PosixFileSystem(), path, 9)) == kFileTooLarge.number);
  CHECK(ReadWholeFile(PosixFileSystem(), dir.Write("empty", ""), 0)->empty());
}

TEST_CASE("paths") {
  CHECK(DirectoryOf("a/b/c") == "a/b");
  CHECK(DirectoryOf("c") == ".");
  CHECK(DirectoryOf("/c") == "/");
  CHECK(BaseNameOf("a/b/c") == "c");
  CHECK(BaseNameOf("c") == "c");
  CHECK(JoinPath("a", "b") == "a/b");
  CHECK(JoinPath("a/", "b") == "a/b");
  CHECK(JoinPath(".", "b") == "b");
  CHECK(JoinPath("/", "b") == "/b");
}

TEST_CASE("what cannot be asked for its target or its real path is an error") {
  const TempDir dir;
  const std::string file = dir.Write("file", "a");
  for (const std::string& path : {file, dir.File("none")}) {
    CHECK(IssueNumberOf(PosixFileSystem().ReadLink(path).status()) == kCannotStat.number);
  }
  CHECK(IssueNumberOf(PosixFileSystem().RealPath(dir.File("none")).status()) == kCannotStat.number);
}

TEST_CASE("a text of the system that is not there, or cannot be read, is none") {
  const TempDir dir;
  CHECK(ReadSystemText(dir.Write("file", "text")) == "text");
  CHECK_FALSE(ReadSystemText(dir.File("none")));
  CHECK_FALSE(ReadSystemText(dir.path()));
}

TEST_CASE("of a working directory that is held, a path from the root is none below it") {
  const TempDir temp;
  const std::string file = temp.Write("file", "text");
  FileSystem& fs = PosixFileSystem();
  const auto held = test::Must(fs.Hold("."));
  CHECK(test::Must(fs.Stat(file)).exists);
  CHECK(fs.CreateDirectory(temp.File("made")).ok());
  CHECK(std::filesystem::exists(temp.File("made")));
  CHECK(test::Must(fs.Stat(".")).is_directory);
}

TEST_CASE("below a held directory nothing is reached by a link or another directory of its name") {
  const TempDir temp;
  FileSystem& fs = PosixFileSystem();
  temp.Write("held/sub/file", "held");
  temp.Write("other/sub/file", "other");
  const std::string held_path = temp.File("held"), file = temp.File("held/sub/file");
  const auto read = [&](const std::string& path, SymbolicLinks links) {
    const absl::StatusOr<std::string> text = ReadWholeFile(fs, path, 100, links);
    return text.ok() ? *text : MessageOf(text.status());
  };
  std::filesystem::create_directory_symlink(temp.File("other"), temp.File("link"));
  CHECK_FALSE(fs.Hold(temp.File("link")).ok());
  CHECK_FALSE(fs.Hold(file).ok());
  auto held = test::Must(fs.Hold(held_path));
  CHECK(held->identity() == test::Must(fs.Stat(held_path)).identity);
  std::filesystem::rename(held_path, temp.File("moved"));
  std::filesystem::create_directory_symlink(temp.File("other"), held_path);
  CHECK(read(file, SymbolicLinks::kNever) == "held");
  CHECK(read(file, SymbolicLinks::kFollow) == "other");  // of inputs
  CHECK(test::Must(fs.ListDirectory(held_path)) == std::vector<std::string>{"sub"});
  CHECK(fs.CreateDirectory(temp.File("held/new")).ok());
  CHECK(std::filesystem::exists(temp.File("moved/new")));
  CHECK(fs.Rename(file, temp.File("held/new/file"), false).ok());
  CHECK(fs.Remove(temp.File("held/new/file")).ok());
  CHECK_FALSE(std::filesystem::exists(temp.File("moved/new/file")));
  CHECK(fs.RemoveDirectory(temp.File("held/new")).ok());
  CHECK(fs.SyncDirectory(held_path).ok());
  CHECK(fs.CreateExclusive(temp.File("held/made")).ok());
  CHECK(std::filesystem::exists(temp.File("moved/made")));
  // A link on the way.
  std::filesystem::create_directory_symlink(temp.File("other"), temp.File("moved/link"));
  CHECK_FALSE(fs.CreateExclusive(temp.File("held/link/x")).ok());
  const std::string too_many = "Too many levels of symbolic links";
  CHECK(MessageOf(fs.CreateDirectory(temp.File("held/link/x"))).find(too_many) != std::string::npos);
  CHECK_FALSE(fs.Remove(temp.File("held/link/sub/file")).ok());
  CHECK_FALSE(fs.RemoveDirectory(temp.File("held/link/sub")).ok());
  const absl::Status moved = fs.Rename(temp.File("held/made"), temp.File("held/link/made"), true);
  CHECK(MessageOf(moved).find(too_many) != std::string::npos);
  CHECK_FALSE(fs.ListDirectory(temp.File("held/link")).ok());
  CHECK(read(temp.File("held/link/sub/file"), SymbolicLinks::kNever) != "other");
  // Up again is another place's business, and so is what does not lie below.
  temp.Write("deep/x", "x");
  std::filesystem::rename(temp.File("moved"), temp.File("deep/moved"));
  CHECK_FALSE(test::Must(fs.Stat(temp.File("held/../x"))).exists);
  std::filesystem::rename(temp.File("deep/moved"), temp.File("moved"));
  {
    const auto here = test::Must(fs.Hold("."));
    CHECK(test::Must(fs.Stat(temp.path())).is_directory);
    CHECK(test::Must(fs.Stat(".")).is_directory);
  }
  // Known by another path, and no longer.
  held->MovedTo(temp.File("renamed"));
  CHECK(test::Must(fs.ListDirectory(temp.File("renamed"))).size() == 3);
  held.reset();
  CHECK_FALSE(fs.ListDirectory(temp.File("renamed")).ok());
  CHECK(test::ReadBytes(temp.File("other/sub/file")) == "other");
}

TEST_CASE("what is found under a predictable name is ours, or refused") {
  const TempDir temp;
  FileSystem& fs = PosixFileSystem();
  const std::string path = temp.Write("m.q4.partial", "half");
  const auto permissions = [&](std::filesystem::perms perms) { std::filesystem::permissions(path, perms); };
  using std::filesystem::perms;
  CHECK(fs.CheckOurs(path, false).ok());
  CHECK(fs.OpenLocked(path).ok());
  permissions(perms::owner_all | perms::others_write);
  CHECK(IssueNumberOf(fs.CheckOurs(path, false)) == kForeignOwner.number);
  CHECK(IssueNumberOf(fs.OpenLocked(path).status()) == kForeignOwner.number);
  CHECK(fs.CheckOurs(path, true).ok());
  permissions(perms::owner_read | perms::owner_write);
  std::filesystem::create_hard_link(path, temp.File("second"));
  CHECK(IssueNumberOf(fs.CheckOurs(path, false)) == kForeignOwner.number);
  std::filesystem::remove(temp.File("second"));
  CHECK(fs.CheckOurs(path, false).ok());
  CHECK(IssueNumberOf(fs.CheckOurs(temp.File("none"), false)) == kCannotStat.number);
  CHECK(fs.CheckOurs(temp.path(), false).ok());
}

}  // namespace
}  // namespace q4
