// The words of error statistics, each with the sentence that a reader gets at a touch. Internal to libconvert/report/.
//
// A <details> opens by pointer, finger and keyboard, needs no script and can be printed open.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

namespace q4::html {

// A word that opens its explanation in place, for labels. REQUIRES: kTerms of terms.cc has it.
std::string Term(std::string_view word);

// A line "What SQNR, NMSE and half steps mean" that opens a list, for above a table. REQUIRES: as Term().
std::string Terms(std::initializer_list<std::string_view> words);

}  // namespace q4::html
