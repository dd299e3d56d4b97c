// The command lines of the four tools. The first byte chooses the tool, each line behind it is an argument. Whatever
// they are, the outcome is flags, a text to print, or a usage error.
#include <optional>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_target.h"
#include "tools/options.h"

namespace q4::fuzz {
namespace {

std::vector<std::string> ArgumentsOf(std::string_view text) {
  std::vector<std::string> arguments = {"tool"};
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    arguments.emplace_back(line.substr(0, line.find('\0')));  // what the operating system would pass
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return arguments;
}

template <typename Flags>
void CheckTool(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  Flags flags;
  const auto text = ParseFlags(static_cast<int>(arguments.size()), argv.data(), &flags);
  if (!text.ok()) {
    CheckError(text.status());
    Q4_FUZZ_CHECK(ExitCodeOf(text.status()) == ExitCode::kUsage);
  } else if (text->has_value()) {
    Q4_FUZZ_CHECK(!(*text)->empty());
  }
}

}  // namespace
}  // namespace q4::fuzz

Q4_FUZZ_TARGET(cli_options) {
  using namespace q4;
  if (size == 0) return 0;
  std::vector<std::string> arguments = fuzz::ArgumentsOf(fuzz::TextOf(data + 1, size - 1));
  switch (data[0] % 4) {
    case 0:
      fuzz::CheckTool<ConvertFlags>(std::move(arguments));
      break;
    case 1:
      fuzz::CheckTool<InspectFlags>(std::move(arguments));
      break;
    case 2:
      fuzz::CheckTool<VerifyFlags>(std::move(arguments));
      break;
    default:
      fuzz::CheckTool<ExportFlags>(std::move(arguments));
  }
  return 0;
}
