// CLI11 throws and exits in its own ways. ParseWords() turns all of that into a status, so that every bad command line
// is one line of stderr and exit code 1.
#include "tools/option_parser.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "fmt/format.h"
#include "libconvert/base/nearest.h"
#include "tools/build_info.h"
#include "tools/completion.h"
#include "tools/option_help.h"
#include "tools/usage_issues.h"

namespace q4 {
namespace {

bool IsRepeatable(const CLI::Option& option) {
  return option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll;
}

std::vector<std::string> OptionNames(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (std::string& name : NamesOf(*option)) {
      if (name.size() > 2 && name.front() == '-') names.push_back(std::move(name));
    }
  }
  return names;
}

// Null when there is none of that name.
const CLI::Option* Find(const CLI::App& app, const std::string& name) {
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string> names = NamesOf(*option);
    if (std::find(names.begin(), names.end(), name) != names.end()) return option;
  }
  return nullptr;
}

// The option whose value is the next argument, as its name is typed, or "". Of letters that stand together ("-qo") that
// is the last one, if those before it are flags; behind any other the rest of the word is its value.
std::string AwaitsValue(const CLI::App& app, const std::string& word) {
  if (word.size() < 2 || word[0] != '-') return {};
  if (word[1] == '-') {
    const CLI::Option* const option = Find(app, word);
    return option != nullptr && !IsFlag(*option) ? word : std::string();
  }
  for (std::size_t i = 1; i < word.size(); ++i) {
    const std::string name{'-', word[i]};
    const CLI::Option* const option = Find(app, name);
    if (option == nullptr) return {};
    if (!IsFlag(*option)) return i + 1 == word.size() ? name : std::string();
  }
  return {};
}

// What makes an argument mean nothing, or something else than it seems to; "" where all is well. Looked at before CLI11
// does, which takes "--gate=" as --gate whose value comes next, "--gate --json" as a gate called --json, "-o=x" as the
// value "=x", and "--force=false" as no. An empty value is mostly a variable of a script that is not set: without
// quotes around it, what comes next takes its place.
std::string Malformed(const CLI::App& app, int argc, char** argv) {
  std::string awaits;  // a value
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--" && awaits.empty()) return {};  // what follows are names
    if (word.empty()) return awaits.empty() ? "an empty argument" : "an empty argument behind '" + awaits + "'";
    const bool is_option = word.size() > 1 && word[0] == '-' && word[1] != '.' && (word[1] < '0' || word[1] > '9');
    if (!awaits.empty() && is_option) {
      return fmt::format("{} has no value; if it is '{}', join the two by '='", awaits, word);
    }
    awaits = awaits.empty() ? AwaitsValue(app, word) : std::string();
    const std::size_t equals = word.find('=');
    if (!is_option) continue;
    // CLI11 would take -output as -o with the value "utput".
    if (word[1] != '-' && word.size() > 2 && Find(app, "-" + word.substr(0, equals)) != nullptr) {
      return fmt::format("'{0}': write '-{0}'", word);
    }
    if (equals == std::string::npos) continue;
    const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
    if (word[1] != '-' && equals == 2) return fmt::format("'{}': write '{} {}'", word, name, value);
    if (value.empty()) return fmt::format("'{}' has an empty value", word);
    const CLI::Option* const option = Find(app, name);
    if (option != nullptr && IsFlag(*option)) return fmt::format("{} takes no value, got '{}'", name, value);
  }
  if (awaits.empty()) return {};
  const std::string value = ValueOf(*Find(app, awaits));
  return fmt::format("{} has no value{}{}", awaits, value.empty() ? "" : "; it takes ", value);
}

// An option that was given more than once and has one value, or yes and no of one flag; "" for none. Also where both
// values are the same: that happens where two parts of a script both think that it is theirs.
std::string GivenTwice(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& values = option->results();
    if (IsFlag(*option)) {
      const bool one_meaning = option->get_fnames().empty() ||
                               std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
      if (!one_meaning) return fmt::format("{} contradict each other", fmt::join(NamesOf(*option), " and "));
    } else if (!IsRepeatable(*option) && values.size() > 1) {
      return fmt::format("{} is given {} times; it has one value", NamesOf(*option).front(), values.size());
    }
  }
  return {};
}

// The first word that no option and no argument took, and the way out; "" when there is none. CLI11 would list all of
// them, values before the flags that they belong to. `second`: what the tool takes a second name for, such as "-o".
std::string Unexpected(const CLI::App& app, std::string_view second) {
  const std::vector<std::string> left = app.remaining();
  for (const std::string& word : left) {
    if (word == "--") break;  // what follows are names
    if (word.size() < 2 || word.front() != '-') continue;
    const std::string name = word.substr(0, word.find('='));
    const std::string meant = DidYouMean(name, OptionNames(app), 1);
    return fmt::format("there is no option '{}'{}", name,
                       meant.empty() ? fmt::format("; {} --help lists them", app.get_name()) : meant);
  }
  return left.empty() ? std::string() : fmt::format("'{}' is one argument too many; {}", left.back(), second);
}

// Under the heading of what was added last.
void AddOwn(CLI::App& app) {
  const std::string heading = app.option_defaults()->get_group();
  app.get_help_ptr()->group(heading)->description("This text");
  app.set_version_flag(
         "--version", [name = std::string(app.get_name())] { return VersionText(name); },
         "The version, and of what build")
      ->group(heading);
}

// What a required option is for, where it is missing: "--to is required: bnb: ...; safetensors: ...".
std::string Missing(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_required() || option->count() != 0) continue;
    const std::string value = option->get_positional() ? std::string() : " " + ValueOf(*option);
    return fmt::format("{}{} is required: {}", NamesOf(*option).front(), value, option->get_description());
  }
  return {};
}

}  // namespace

absl::StatusOr<std::optional<std::string>> ParseWords(CLI::App& app, int argc, char** argv, std::string_view second) {
  AddOwn(app);
  // For scripts that install completion, and not among the options: --help and completion are of the daily ones.
  if (argc == 3 && argv[1] == std::string_view("--completion")) {
    return CompletionScript(app.get_name(), ListOptions(app), argv[2]);
  }
  if (const std::string wrong = Malformed(app, argc, argv); !wrong.empty()) return Fail(kBadFlag, {}, {}, wrong);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return HelpText(app);
  } catch (const CLI::CallForVersion& version) {
    return std::string(version.what());
  } catch (const CLI::ParseError& error) {
    if (argc == 1) return Fail(kBadFlag, {}, {}, fmt::format("no arguments; {} --help lists them", app.get_name()));
    // A word that nothing took explains more than what is then missing: `q4convert model x.q4` lacks its -o.
    const bool required = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
    const bool left_over = dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr || required;
    const std::string unexpected = left_over ? Unexpected(app, second) : std::string();
    const std::string twice = GivenTwice(app);
    const std::string missing = required ? Missing(app) : std::string();
    // CLI11's message names the flag and what was expected; Fail() escapes what it quotes.
    return Fail(kBadFlag, {}, {},
                !twice.empty()        ? twice
                : !unexpected.empty() ? unexpected
                : !missing.empty()    ? missing
                                      : std::string(error.what()));
  }
  if (const std::string twice = GivenTwice(app); !twice.empty()) return Fail(kBadFlag, {}, {}, twice);
  return std::nullopt;
}

std::vector<OptionInfo> ListOptions(CLI::App& app) {
  AddOwn(app);
  std::vector<OptionInfo> list;
  for (const CLI::Option* option : app.get_options()) {
    list.push_back({NamesOf(*option), option->get_positional(), !IsFlag(*option), IsRepeatable(*option),
                    option->get_type_name(), option->get_group(), option->get_description()});
  }
  return list;
}

}  // namespace q4
