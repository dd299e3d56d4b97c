// The two threads at the ends of the pipeline; pipeline.h has the picture of all of it.
//
// The admitting thread is started here and walks the plan; the calling thread commits. Between them are the threads of
// Stages. The end comes from the front: the plan is walked (or the stages are stopped), the committer sees its queue
// closed and empty, the last steps are taken. Only then is anything destroyed.
#include "libconvert/convert/pipeline.h"

#include <algorithm>
#include <memory>
#include <new>
#include <thread>
#include <utility>

#include "libconvert/base/run_issues.h"
#include "libconvert/convert/committer.h"
#include "libconvert/convert/memory_needs.h"
#include "libconvert/convert/source_check.h"
#include "libconvert/convert/stages.h"
#include "libconvert/convert/tensor_job.h"
#include "libconvert/convert/treat.h"

namespace q4 {
namespace {

// The admitting thread: gives each tensor and embedded file that is left to do its treatment, in plan order.
class Admission {
 public:
  Admission(Stages& stages, const PipelineStart& start, Committer& committer)
      : stages_(stages), plan_(stages.conversion().plan), start_(start), committer_(committer) {}

  // Until the end, or until the stages are stopped. Closes the committer's queue in either case.
  void AdmitAll();

 private:
  void AdmitFile(std::size_t shard, std::uint64_t number);
  void AdmitTensor(std::size_t shard, std::uint64_t number, const PlannedTensor& planned);
  template <typename SomeJob>
  std::shared_ptr<SomeJob> NewJob(std::size_t shard, std::uint64_t number, std::size_t owner);
  template <typename SomeJob>
  void Treat(const std::shared_ptr<SomeJob>& job, void (*treatment)(Stages&, const std::shared_ptr<SomeJob>&));

  Stages& stages_;
  const ConversionPlan& plan_;
  const PipelineStart& start_;
  Committer& committer_;
  std::uint64_t jobs_ = 0;  // so far; the order of the next one
};

template <typename SomeJob>
std::shared_ptr<SomeJob> Admission::NewJob(std::size_t shard, std::uint64_t number, std::size_t owner) {
  auto job = std::make_shared<SomeJob>();
  job->memory = stages_.Reserve(kJobBytes);
  job->order = jobs_++;
  job->shard = shard;
  job->number = number;
  job->owner = owner;
  return job;
}

// The committer learns of a job first: it takes the job's chunks, and frees their memory, while later ones still wait
// for that memory here.
template <typename SomeJob>
void Admission::Treat(const std::shared_ptr<SomeJob>& job,
                      void (*treatment)(Stages&, const std::shared_ptr<SomeJob>&)) {
  committer_.Push(job);
  try {
    treatment(stages_, job);
  } catch (const std::bad_alloc&) {
    job->Abort(Fail(kOutOfMemory, stages_.conversion().checkpoint.path(), {}));
  }
}

void Admission::AdmitFile(std::size_t shard, std::uint64_t number) {
  const auto job = NewJob<FileJob>(shard, number, number);
  job->bytes = plan_.shards[shard].index.files[number].raw_bytes;
  Treat(job, TreatFile);
}

void Admission::AdmitTensor(std::size_t shard, std::uint64_t number, const PlannedTensor& planned) {
  const Q4Tensor& tensor = plan_.shards[shard].index.tensors[planned.tensor];
  const SourceTensor& source = stages_.conversion().checkpoint.tensors()[planned.source];
  if (!tensor.quantized() || source.bnb != nullptr) {
    // The job has its own copy of the entry, which the treatment may change.
    const auto job = NewJob<TensorJob>(shard, number, planned.tensor);
    job->source = &source;
    job->tensor = tensor;
    Treat(job, source.bnb != nullptr ? TreatCopied : TreatKept);
  } else {
    const auto job = NewJob<QuantizedJob>(shard, number, planned.tensor);
    job->source = &source;
    job->tensor = tensor;
    job->calibrated = planned.calibrated;
    Treat(job, TreatQuantized);
  }
}

void Admission::AdmitAll() {
  for (std::size_t s = 0; s < plan_.shards.size(); ++s) {
    // Embedded files first, then tensors, as Q4Writer wants; an earlier run has done the first of them.
    const PlannedShard& shard = plan_.shards[s];
    const std::uint64_t files = shard.files.size();
    for (std::uint64_t n = start_.owners_done[s]; n < files + shard.tensors.size() && !stages_.stopped(); ++n) {
      n < files ? AdmitFile(s, n) : AdmitTensor(s, n, shard.tensors[n - files]);
    }
  }
  committer_.Close();
}

}  // namespace

absl::StatusOr<PipelineResult> RunPipeline(const Conversion& conversion, const PipelineStart& start,
                                           const std::vector<Q4Writer*>& writers, JournalWriter& journal) {
  // Destroyed in the reverse order: the committer goes first, and jobs that it still holds give their memory back to
  // the stages, which must be there for it.
  Stages stages(conversion, start);
  Committer committer(stages, start, writers, journal);
  Admission admission(stages, start, committer);
  std::thread admitting([&] { admission.AdmitAll(); });
  // CommitAll() returns after Close(), so that the admitting thread is at its end.
  const absl::Status committed = committer.CommitAll();
  admitting.join();
  stages.Wait();
  const auto digest_states = [&] { return stages.hasher().States(); };
  // The last that can be done for the next run; if that fails too, it begins a little earlier.
  if (IsWorthResuming(committed)) journal.AddPending(digest_states).IgnoreError();
  Q4_RETURN_IF_ERROR(committed);
  // The digests first: they may still be read, and the check below must come after the last byte that is read.
  PipelineResult result;
  Q4_ASSIGN_OR_RETURN(result.source_digests, stages.hasher().Finish());
  result.digest_states = digest_states();
  result.notes = committer.TakeNotes();
  Q4_RETURN_IF_ERROR(ConfirmUnchanged(conversion, result.source_digests, &result.notes));
  // By text, which begins with the tensor's name in each kind of note.
  std::sort(result.notes.begin(), result.notes.end());
  result.peak_budget_bytes = stages.budget().peak();
  return result;
}

}  // namespace q4
