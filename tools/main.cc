// The program of one tool: Q4_TOOL_MAIN, which tools/CMakeLists.txt defines, is one of mains.h.
#include "tools/mains.h"

int main(int argc, char** argv) { return q4::Q4_TOOL_MAIN(argc, argv); }
