// The container's own record of where it came from is untrusted text like any other. If it cannot be read, the section
// says "unknown" and the rest of the page stays.
//
// The seal comes from the verification, not from the record: it was computed from the bytes that were read.
#include <string>
#include <string_view>

#include "fmt/format.h"
#include "formats/base/digest.h"
#include "formats/base/text.h"
#include "libconvert/base/text_table.h"
#include "libconvert/base/version.h"
#include "libconvert/model/provenance_view.h"
#include "libconvert/report/html/markup.h"
#include "libconvert/report/html/sections.h"

namespace q4::html {
namespace {

// A checkpoint may have many shards, and a hostile record as many as its bytes allow.
constexpr std::size_t kSourcesShown = 200;

// A row of the list of facts. <wbr> in its values lets browsers break a digest of 64 characters on narrow screens.
std::string Row(std::string_view label, std::string_view markup) {
  return fmt::format("<div><dt>{}</dt><dd>{}</dd></div>\n", label, markup);
}

std::string Sources(const std::vector<SourceFileRecord>& sources) {
  std::string text;
  for (std::size_t i = 0; i < sources.size() && i < kSourcesShown; ++i) {
    const SourceFileRecord& source = sources[i];
    text += fmt::format("{}<br><span class=\"note\">{}, {}:<wbr>{}</span><br>", Name(source.name),
                        HumanBytes(source.size), Text(source.digest_kind), Text(source.digest));
  }
  if (sources.size() > kSourcesShown) {
    text += fmt::format("and {} more", Grouped(sources.size() - kSourcesShown));
  }
  return text;
}

}  // namespace

std::string ProvenanceSection(const VerifyReport& report) {
  std::string rows = Row("container", Name(report.path, kPathBytes)) + Row("seal", "sha256:<wbr>" + HexOf(report.root));
  rows += Row("content", fmt::format("{} bytes in {} chunks, {} embedded files", Grouped(report.file_bytes),
                                     Grouped(report.chunks), Grouped(report.embedded_files)));
  if (!report.source.empty()) rows += Row("compared with", Name(report.source, kPathBytes));
  const absl::StatusOr<ProvenanceView> view = ParseProvenance(report.provenance, report.path);
  if (view.ok()) {
    rows += Row("made by", Text(fmt::format("{}, arithmetic {}", view->tool(), view->numerics)));
    rows += Row("options", Text(ConversionOptions(*view), kPathBytes));
    // No source files: the container was not made from files, or by a tool that records none.
    if (!view->sources.empty()) rows += Row("source files", Sources(view->sources));
    if (!view->adapter.empty()) rows += Row("adapter", Sources(view->adapter));
  } else {
    rows += Row("made by", "unknown");
  }
  rows += Row("report by", fmt::format("q4verify {}", kQ4Version));
  return Section("provenance", "Provenance", "", "<dl class=\"facts\">\n" + rows + "</dl>\n");
}

}  // namespace q4::html
