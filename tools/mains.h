// The tools, each as the function that its program's main() is: main.cc, and python/bind/tools.cc for those of the
// wheel.
#pragma once

namespace q4 {

// They print, catch signals and return the exit code; the process has nothing to do behind them, stdout is closed.
int ConvertMain(int argc, char** argv);
int ExportMain(int argc, char** argv);
int InspectMain(int argc, char** argv);
int VerifyMain(int argc, char** argv);

}  // namespace q4
