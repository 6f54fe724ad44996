#!/usr/bin/env bash
# Builds node/train/kernels/*.c into kernels.wasm (plain SIMD, the same bits on every CPU) and kernels-fma.wasm (relaxed
# SIMD, fused multiply-add). Both are committed, so nobody needs this but who changes the kernels.
#   scripts/build-kernels.sh           builds in place
#   scripts/build-kernels.sh --check   builds elsewhere and compares with what is committed
# CLANG names another compiler; the committed bytes are clang 16's.
set -euo pipefail

kernels="$(cd "$(dirname "$0")/.." && pwd)/node/train/kernels"
clang="${CLANG:-clang-16}"
if ! command -v "$clang" >/dev/null; then
  echo "build-kernels: '$clang' not found. Install it: apt-get install clang-16 lld-16 (or set CLANG=<clang >= 16>)." >&2
  exit 1
fi
linker="$("$clang" -print-prog-name=wasm-ld)"
if ! command -v "$linker" >/dev/null; then
  echo "build-kernels: '$clang' has no wasm-ld. Install it: apt-get install lld-16 (the lld of your clang's version)." >&2
  exit 1
fi

target="$kernels"
if [ "${1:-}" = --check ]; then
  target="$(mktemp -d)"
  trap 'rm -rf "$target"' EXIT
fi

# -ffp-contract=off: multiply and add are fused only where the source says so
sources=(gemm.c attention.c layer-norm.c pointwise.c cross-entropy.c optimizer.c)
compile=("$clang" --target=wasm32 -std=c17 -O3 -Wall -Wextra -Werror -msimd128 -mbulk-memory -nostdlib -ffreestanding
  -fno-builtin -ffp-contract=off -fvisibility=hidden)
build() {
  local output="$1"
  shift
  cd "$kernels"
  # the memory is TF.js's: a kernel that keeps anything on a stack of its own would write over TF.js's data
  for source in "${sources[@]}"; do
    if "${compile[@]}" "$@" -S "$source" -o - | grep -q __stack_pointer; then
      echo "build-kernels: $source needs a stack; pass it scratch space instead." >&2
      exit 1
    fi
  done
  "${compile[@]}" "$@" "${sources[@]}" -o "$target/$output" -Wl,--no-entry -Wl,--export-dynamic -Wl,--import-memory \
    -Wl,--strip-all
  chmod 644 "$target/$output"
}
build kernels.wasm
build kernels-fma.wasm -mrelaxed-simd -DRELAXED

if [ "$target" != "$kernels" ]; then
  for name in kernels.wasm kernels-fma.wasm; do
    if ! cmp "$target/$name" "$kernels/$name"; then
      echo "build-kernels: $name is not what the sources give; run 'npm run kernels' with clang 16 and commit it." >&2
      exit 1
    fi
  done
  echo 'build-kernels: the committed kernels match their sources'
fi
