// A device of type CUDA without a GPU: its memory is the host's memory, and the CPU's kernels compute.
//
// PyTorch's dispatcher sends each operation that it has no CUDA kernel for to run_on_cpu(). That function shows the
// operands to the CPU's kernel as CPU tensors over the same memory, and makes CUDA tensors of what the kernel returns.
// So everything that decides by the type of the device takes the branch of a GPU, and an operation on tensors of two
// devices fails as it does there. Times, streams, and kernels that exist on a GPU only are not simulated.

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/_log_softmax_backward_data.h>
#include <ATen/ops/_softmax.h>
#include <ATen/ops/_softmax_backward_data.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/library.h>

namespace {

using at::Tensor;

const c10::Device GPU(c10::DeviceType::CUDA, 0);
const c10::DispatchKeySet GPU_KEYS(c10::DispatchKey::CUDA);

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr memory = c10::GetCPUAllocator()->allocate(bytes);
    void* data = memory.get();
    c10::DeleterFnPtr deleter = memory.get_deleter();
    return {data, memory.release_context(), deleter, GPU};
  }
  void copy_data(void* target, const void* source, size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }
};

Allocator allocator;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return GPU.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return GPU; }
  c10::Device getDevice() const override { return GPU; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream getNewStream(c10::Device, int) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}

  static c10::Stream stream() { return c10::Stream(c10::Stream::DEFAULT, GPU); }
};

C10_REGISTER_GUARD_IMPL(CUDA, Guard);

// What PyTorch asks the library that has CUDA's kernels.
struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  int getNumGPUs() const override { return 1; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex current_device() const override { return 0; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  void deviceSynchronize(c10::DeviceIndex) const override {}
  c10::Device getDeviceFromPtr(void*) const override { return GPU; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetCPUAllocator(); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
};

// PyTorch starts the threads of backward passes at the first backward pass, one for each device that it has then.
struct Engine : torch::autograd::Engine {
  static void start_thread_of_gpu() {
    (torch::autograd::Engine::get_default_engine().*(&Engine::start_device_threads))();
  }
};

// PyTorch keeps the first answer to the question which hooks there are, so that very object becomes these hooks.
void replace_hooks() {
  static_assert(sizeof(Hooks) == sizeof(at::CUDAHooksInterface));
  new (const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks())) Hooks;
}

bool is_on_gpu(const Tensor& tensor) { return tensor.defined() && tensor.device().type() == GPU.type(); }

const void* memory_of(const Tensor& tensor) { return tensor.storage().data(); }

Tensor tensor_in(c10::Storage storage, const Tensor& shape) {
  const auto key = storage.device() == GPU ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU;
  auto tensor = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), shape.dtype());
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(shape.sizes(), shape.strides(), shape.storage_offset());
  return tensor;
}

// Returns a tensor of another device over the memory of `tensor`, which it keeps alive.
Tensor over_same_memory(const Tensor& tensor, c10::Device device) {
  const c10::Storage& storage = tensor.storage();
  c10::DataPtr data(storage.mutable_data(), new c10::Storage(storage),
                    [](void* kept) { delete static_cast<c10::Storage*>(kept); }, device);
  return tensor_in({c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data),
                    c10::GetAllocator(device.type()), /*resizable=*/true},
                   tensor);
}

// The operands of one call: what the caller gave, and what the CPU's kernel gets.
class Operands {
 public:
  explicit Operands(const c10::OperatorHandle& operation) : operation(operation) {}

  Tensor on_cpu(const Tensor& tensor) {
    if (is_on_gpu(tensor)) {
      any_on_gpu = true;
      pairs.emplace_back(tensor, over_same_memory(tensor, c10::kCPU));
      return pairs.back().second;
    }
    // A tensor with one number may come from the host, and so may indices.
    any_on_cpu |= tensor.defined() && tensor.dim() > 0;
    return tensor;
  }

  c10::IValue on_cpu(const c10::IValue& value) {
    if (value.isTensor()) return on_cpu(value.toTensor());
    if (value.isTensorList()) {
      c10::List<Tensor> tensors;
      for (const Tensor& tensor : value.toTensorVector()) tensors.push_back(on_cpu(tensor));
      return tensors;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> tensors;
      for (const auto& tensor : value.toOptionalTensorVector())
        tensors.push_back(tensor ? std::optional<Tensor>(on_cpu(*tensor)) : std::nullopt);
      return tensors;
    }
    if (value.isDevice() && value.toDevice().type() == GPU.type()) {
      any_on_gpu = true;
      return c10::Device(c10::kCPU);
    }
    return value;
  }

  void refuse_two_devices() const {
    const std::string& name = operation.schema().name();
    TORCH_CHECK(!pairs.size() || !any_on_cpu || name.rfind("aten::index", 0) == 0 || name.rfind("aten::_index", 0) == 0,
                "Expected all tensors to be on the same device, but ", name, " got tensors on cuda:0 and on the cpu");
  }

  // An operation may give an operand, as out=, another shape and new memory.
  void take_over_new_shapes() const {
    for (const auto& [given, used] : pairs) {
      if (memory_of(given) != memory_of(used)) {
        given.storage().set_data_ptr(over_same_memory(used, GPU).storage().set_data_ptr({}));
        given.storage().set_nbytes(used.storage().nbytes());
      }
      if (given.sizes() != used.sizes() || given.strides() != used.strides())
        given.unsafeGetTensorImpl()->set_sizes_and_strides(used.sizes(), used.strides(), used.storage_offset());
    }
  }

  Tensor on_gpu(const Tensor& result) const {
    if (!any_on_gpu || !result.defined() || is_on_gpu(result)) return result;
    for (const auto& [given, used] : pairs)
      if (result.is_same(used)) return given;
    for (const auto& [given, used] : pairs)
      if (memory_of(used) && memory_of(result) == memory_of(used)) return tensor_in(given.storage(), result);
    return over_same_memory(result, GPU);
  }

  c10::IValue on_gpu(const c10::IValue& value) const {
    if (value.isTensor()) return on_gpu(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<Tensor> tensors;
    for (const Tensor& tensor : value.toTensorVector()) tensors.push_back(on_gpu(tensor));
    return tensors;
  }

 private:
  const c10::OperatorHandle& operation;
  std::vector<std::pair<Tensor, Tensor>> pairs;
  bool any_on_gpu = false, any_on_cpu = false;
};

void run_on_cpu(const c10::OperatorHandle& operation, torch::jit::Stack* stack) {
  Operands operands(operation);
  for (size_t i = stack->size() - operation.schema().arguments().size(); i < stack->size(); i++)
    (*stack)[i] = operands.on_cpu((*stack)[i]);
  operands.refuse_two_devices();
  operation.callBoxedForDispatchKey(c10::DispatchKey::CPU, *stack);
  operands.take_over_new_shapes();
  for (size_t i = stack->size() - operation.schema().returns().size(); i < stack->size(); i++)
    (*stack)[i] = operands.on_gpu((*stack)[i]);
}

Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
             std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, GPU_KEYS, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype,
                     std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, GPU_KEYS, c10::dtype_or_default(dtype));
}

Tensor& copy(Tensor& target, const Tensor& source, bool) {
  auto on_cpu = [](const Tensor& tensor) {
    return is_on_gpu(tensor) ? over_same_memory(tensor, c10::kCPU) : tensor;
  };
  on_cpu(target).copy_(on_cpu(source));
  return target;
}

// On a GPU the softmax of numbers in float16 may be float32, and so may its gradient; the CPU's kernels want one type.
using Softmax = Tensor (*)(const Tensor&, int64_t, bool);
using SoftmaxBackward = Tensor (*)(const Tensor&, const Tensor&, int64_t, at::ScalarType);

template <Softmax on_cpu>
Tensor softmax(const Tensor& input, int64_t dim, bool to_float) {
  const Tensor host = over_same_memory(input, c10::kCPU);
  return over_same_memory(on_cpu(to_float ? host.to(at::kFloat) : host, dim, false), GPU);
}

template <SoftmaxBackward on_cpu>
Tensor softmax_backward(const Tensor& gradient, const Tensor& output, int64_t dim, at::ScalarType input_type) {
  const Tensor host = over_same_memory(output, c10::kCPU);
  const Tensor result = on_cpu(over_same_memory(gradient, c10::kCPU), host, dim, host.scalar_type());
  return over_same_memory(result.to(input_type), GPU);
}

const bool is_set_up = (c10::SetAllocator(GPU.type(), &allocator), replace_hooks(), Engine::start_thread_of_gpu(), true);

}  // namespace

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_cpu>()); }

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("copy_", &copy);
  library.impl("_softmax", &softmax<at::_softmax>);
  library.impl("_log_softmax", &softmax<at::_log_softmax>);
  library.impl("_softmax_backward_data", &softmax_backward<at::_softmax_backward_data>);
  library.impl("_log_softmax_backward_data", &softmax_backward<at::_log_softmax_backward_data>);
}
