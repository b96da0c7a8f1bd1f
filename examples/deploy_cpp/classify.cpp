// Classify sounds with a model that `specenhance export` wrote, by onnxruntime's C++ API. See README.md beside this file.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

using Bytes = std::vector<unsigned char>;

static uint32_t number(const Bytes& bytes, size_t at, int size) {  // little-endian
  uint32_t value = 0;
  for (int i = size - 1; i >= 0; --i) value = value << 8 | bytes[at + i];
  return value;
}

// Convert 16-bit samples from `start` to `end` to floats in [-1, 1). The channels are averaged.
static std::vector<float> samples(const Bytes& bytes, size_t start, size_t end, size_t channels) {
  std::vector<float> mono((end - start) / (2 * channels));
  for (size_t i = 0; i < mono.size(); ++i) {
    for (size_t c = 0; c < channels; ++c)
      mono[i] += static_cast<int16_t>(number(bytes, start + 2 * (i * channels + c), 2)) / 32768.0f;
    mono[i] /= channels;
  }
  if (mono.empty()) throw std::runtime_error("holds no samples");
  return mono;
}

// Read a WAV file of 16-bit PCM.
static std::vector<float> read_wav(const Bytes& bytes, size_t rate) {
  auto is = [&](size_t at, const char* name) { return at + 4 <= bytes.size() && !std::memcmp(&bytes[at], name, 4); };
  if (!is(0, "RIFF") || !is(8, "WAVE")) throw std::runtime_error("is no WAV file; convert it to WAV of 16-bit PCM");
  size_t channels = 0;
  for (size_t at = 12; at + 8 <= bytes.size();) {
    const size_t start = at + 8, size = number(bytes, at + 4, 4);
    if (size > bytes.size() - start) throw std::runtime_error("ends early: it is shorter than its header states");
    if (is(at, "fmt ") && size >= 16) {
      const uint32_t tag = number(bytes, start, 2);
      const uint32_t kind = tag == 0xFFFE && size >= 26 ? number(bytes, start + 24, 2) : tag;  // 0xFFFE: stands further on
      channels = number(bytes, start + 2, 2);
      const uint32_t found = number(bytes, start + 4, 4), bits = number(bytes, start + 14, 2);
      if (kind != 1 || bits != 16 || channels == 0) throw std::runtime_error("is not 16-bit PCM; convert it");
      if (found != rate)
        throw std::runtime_error("has " + std::to_string(found) + " Hz, the model expects " + std::to_string(rate) + " Hz; resample it");
    } else if (is(at, "data")) {
      if (channels == 0) throw std::runtime_error("has no format before its samples");
      return samples(bytes, start, start + size, channels);
    }
    at = start + size + size % 2;
  }
  throw std::runtime_error("is a WAV file without samples");
}

// Give a label without control characters, which could act on a terminal.
static std::string shown(std::string label) {
  for (char& c : label) if (static_cast<unsigned char>(c) < 32 || c == 127) c = '?';
  return label;
}

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("usage: classify model.onnx SOUND.wav ...   (or - for raw 16-bit PCM, mono)");
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR);
  Ort::SessionOptions options;
  options.AddConfigEntry("session.x64quantprecision", "1");  // as in Python: INT8 gives the same on every processor
  Ort::Session session(env, argv[1], options);
  Ort::AllocatorWithDefaultOptions allocator;
  const Ort::ModelMetadata metadata = session.GetModelMetadata();
  auto about = [&](const char* key) {  // each value is JSON
    auto text = metadata.LookupCustomMetadataMapAllocated(key, allocator);
    return text ? nlohmann::json::parse(text.get()) : nlohmann::json();
  };
  if (about("input") != "waveform") throw std::runtime_error(std::string(argv[1]) + ": is no model of specenhance that takes waveforms");
  const auto classes = about("classes").get<std::vector<std::string>>();
  const nlohmann::json thresholds = about("thresholds");  // null for a model of one label per sound
  const size_t rate = about("sample_rate"), longest = about("samples");
  int failed = 0;
  for (int i = 2; i < argc; ++i) try {
    const bool raw = !std::strcmp(argv[i], "-");
    std::ifstream file;
    if (!raw) file.open(argv[i], std::ios::binary);
    if (!raw && !file) throw std::runtime_error("cannot be opened");
    const Bytes bytes(std::istreambuf_iterator<char>(raw ? std::cin : file), {});
    std::vector<float> wave = raw ? samples(bytes, 0, bytes.size() / 2 * 2, 1) : read_wav(bytes, rate);
    const bool whole = wave.size() <= longest;
    wave.resize(std::min(wave.size(), longest));
    const int64_t shape[] = {1, static_cast<int64_t>(wave.size())};
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto input = Ort::Value::CreateTensor<float>(memory, wave.data(), wave.size(), shape, 2);
    const char *in[] = {"waveform"}, *out[] = {"logits"};
    auto outputs = session.Run(Ort::RunOptions{}, in, &input, 1, out, 1);
    if (outputs[0].GetTensorTypeAndShapeInfo().GetElementCount() != classes.size() ||
        (!thresholds.is_null() && thresholds.size() != classes.size())) throw std::runtime_error("the model and its metadata differ");
    const float* logits = outputs[0].GetTensorData<float>();
    std::vector<double> probabilities(logits, logits + classes.size());
    const double highest = *std::max_element(probabilities.begin(), probabilities.end());
    double sum = 0;
    for (double& p : probabilities) sum += p = thresholds.is_null() ? std::exp(p - highest) : 1 / (1 + std::exp(-p));
    if (thresholds.is_null()) for (double& p : probabilities) p /= sum;
    std::vector<size_t> order(classes.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });
    std::printf("%s:", argv[i]);
    for (size_t k = 0; k < std::min<size_t>(3, order.size()); ++k) {
      const size_t label = order[k];
      const bool found = !thresholds.is_null() && probabilities[label] >= thresholds[label].get<double>();
      std::printf("%s %s %.3f%%%s", k ? "," : "", shown(classes[label]).c_str(), 100 * probabilities[label], found ? " (found)" : "");
    }
    std::printf("%s\n", whole ? "" : " (only its start)");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", argv[i], error.what());
    failed = 1;
  }
  return failed;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
