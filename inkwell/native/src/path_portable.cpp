// The path for every processor.
#include <math.h>
#include <string.h>

#include "kernels.h"

#define PATH_NAME "portable"

namespace inkwell {
namespace {
#include "lanes_portable.h"
#include "functions.h"
#include "products_portable.h"
#include "table.h"
}  // namespace

const Kernels* portable_kernels() { return &kTable; }

}  // namespace inkwell
