// The treatments: what becomes of a tensor or embedded file between the source and its chunks. Each is called by the
// admitting thread, takes all memory that its job will ever need in the job's own order (memory_needs.h), starts its
// reads and returns; steps on reader and worker threads do the rest and end in the job's mailbox. What cannot be done
// is told there, or in the settlement, for the committing thread to find.
#pragma once

#include <memory>

#include "libconvert/convert/stages.h"
#include "libconvert/convert/tensor_job.h"

namespace q4 {

// treat_file.cc: an embedded file, byte by byte. Small ones: read and encoded by the admitting thread itself.
void TreatFile(Stages& stages, const std::shared_ptr<FileJob>& job);

// treat_kept.cc: a tensor stored with its own elements, as its own type or, by --keep-dtype, another.
void TreatKept(Stages& stages, const std::shared_ptr<TensorJob>& job);
// The same for one that was to be quantized: its source is read for the second time.
void KeepAfterAll(Stages& stages, const std::shared_ptr<TensorJob>& job);

// treat_copied.cc: a weight that is taken over with its codes and scales (SourceTensor::bnb).
void TreatCopied(Stages& stages, const std::shared_ptr<TensorJob>& job);

// treat_quantized.cc: codes, scales, statistics, in one pass or two (QuantizedJob::Passes). With two readings the
// admitting thread waits for the end of the first one.
void TreatQuantized(Stages& stages, const std::shared_ptr<QuantizedJob>& job);

}  // namespace q4
