// A remark for people about something that was accepted, but is worth knowing: an odd input, a choice that was made, a
// file that was left out. Errors are statuses (status.h); a remark ends nothing.
#pragma once

#include <string>

namespace q4 {

struct Note {
  // Something that the user did not ask for and may regret: a loader will miss a file, a label would surprise. Tools
  // print "warning: " before it, and documents list it under "warnings".
  bool warning = false;
  std::string text;  // one line without its end, no full stop; what comes from input has passed Printable()
};

}  // namespace q4
