/*
 * C = scale x op(A) x op(B) [+ C], row-major, op being identity or transpose.
 *
 * The loops are those of Goto and van de Geijn (2008), "Anatomy of High-Performance Matrix Multiplication": a block of B
 * (DEPTH_BLOCK x COLUMN_BLOCK, stays in L2) and a block of A (ROW_BLOCK x DEPTH_BLOCK, L1/L2) are copied ("packed") into
 * the order in which the innermost loop reads them, so that it only ever loads forwards, whatever op was. The innermost
 * tile is 4 x 8: eight accumulators, two loads of B and one of A fit the 16 registers of x64 (6 x 8 spills).
 */
#include "simd.h"

#define TILE_ROWS 4
#define TILE_COLUMNS 8
#define ROW_BLOCK 64
#define DEPTH_BLOCK 256
#define COLUMN_BLOCK 1024

/* Four rows of four become four columns of four, written `step` floats apart. */
static inline void storeTransposed(float *to, int step, float4 r0, float4 r1, float4 r2, float4 r3) {
  float4 low01 = wasm_i32x4_shuffle(r0, r1, 0, 4, 1, 5), high01 = wasm_i32x4_shuffle(r0, r1, 2, 6, 3, 7);
  float4 low23 = wasm_i32x4_shuffle(r2, r3, 0, 4, 1, 5), high23 = wasm_i32x4_shuffle(r2, r3, 2, 6, 3, 7);
  store(to, wasm_i64x2_shuffle(low01, low23, 0, 2));
  store(to + step, wasm_i64x2_shuffle(low01, low23, 1, 3));
  store(to + 2 * step, wasm_i64x2_shuffle(high01, high23, 0, 2));
  store(to + 3 * step, wasm_i64x2_shuffle(high01, high23, 1, 3));
}

/*
 * Packs `width` <= step lines of length `depth` so that element k of line i lands at to[k * step + i]; missing lines
 * are zero. `along` is the distance between neighbours in a line, `across` between lines; one of the two is 1.
 */
static void packPanel(float *restrict to, int step, const float *from, int along, int across, int width, int depth,
                      float scale) {
  const float4 scale4 = splat(scale);
  int k = 0;
  if (width == step && across == 1) { /* lines stand side by side: copy rows of them */
    for (; k < depth; k++)
      for (int i = 0; i < step; i += 4) store(to + k * step + i, mul(load(from + k * along + i), scale4));
    return;
  }
  if (width == step && along == 1) { /* lines run along memory: transpose 4 x 4 squares */
    for (; k + 4 <= depth; k += 4)
      for (int i = 0; i < step; i += 4) {
        const float *square = from + i * across + k;
        storeTransposed(to + k * step + i, step, mul(load(square), scale4), mul(load(square + across), scale4),
                        mul(load(square + 2 * across), scale4), mul(load(square + 3 * across), scale4));
      }
  }
  for (; k < depth; k++)
    for (int i = 0; i < step; i++) to[k * step + i] = i < width ? scale * from[k * along + i * across] : 0;
}

static void packRows(float *to, const float *a, int stride, int transposed, int rows, int depth, float scale) {
  for (int i = 0; i < rows; i += TILE_ROWS) {
    int width = min(TILE_ROWS, rows - i);
    if (transposed) packPanel(to, TILE_ROWS, a + i, stride, 1, width, depth, scale);
    else packPanel(to, TILE_ROWS, a + i * stride, 1, stride, width, depth, scale);
    to += TILE_ROWS * depth;
  }
}

static void packColumns(float *to, const float *b, int stride, int transposed, int depth, int columns) {
  for (int j = 0; j < columns; j += TILE_COLUMNS) {
    int width = min(TILE_COLUMNS, columns - j);
    if (transposed) packPanel(to, TILE_COLUMNS, b + j * stride, 1, stride, width, depth, 1.0f);
    else packPanel(to, TILE_COLUMNS, b + j, stride, 1, width, depth, 1.0f);
    to += TILE_COLUMNS * depth;
  }
}

#define LOAD_ROW(r)                                                         \
  float4 c##r##0 = accumulate ? load(c + r * stride) : splat(0.0f);         \
  float4 c##r##1 = accumulate ? load(c + r * stride + 4) : splat(0.0f);
#define MULTIPLY_ROW(r)                             \
  {                                                 \
    float4 x = wasm_v128_load32_splat(a + r);       \
    c##r##0 = multiplyAdd(x, b0, c##r##0);          \
    c##r##1 = multiplyAdd(x, b1, c##r##1);          \
  }
#define STORE_ROW(r)                  \
  store(c + r * stride, c##r##0);     \
  store(c + r * stride + 4, c##r##1);

/* One 4 x 8 tile of C from packed panels of A and B. */
static inline void tile(int depth, const float *restrict a, const float *restrict b, float *restrict c, int stride,
                        int accumulate) {
  LOAD_ROW(0) LOAD_ROW(1) LOAD_ROW(2) LOAD_ROW(3)
  for (int k = 0; k < depth; k++) {
    float4 b0 = load(b), b1 = load(b + 4);
    MULTIPLY_ROW(0) MULTIPLY_ROW(1) MULTIPLY_ROW(2) MULTIPLY_ROW(3)
    a += TILE_ROWS;
    b += TILE_COLUMNS;
  }
  STORE_ROW(0) STORE_ROW(1) STORE_ROW(2) STORE_ROW(3)
}

/* A tile that hangs over the edge of C goes through `edge`, a whole tile of scratch. */
static void edgeTile(int depth, const float *a, const float *b, float *c, int stride, int rows, int columns,
                     int accumulate, float *edge) {
  tile(depth, a, b, edge, TILE_COLUMNS, 0);
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++) {
      float x = edge[i * TILE_COLUMNS + j];
      c[i * stride + j] = accumulate ? c[i * stride + j] + x : x;
    }
}

/* All tiles of one packed block of A against one packed block of B. */
static void multiplyBlock(float *c, int stride, const float *packedA, const float *packedB, int rows, int columns,
                          int depth, int accumulate, float *edge) {
  for (int j = 0; j < columns; j += TILE_COLUMNS)
    for (int i = 0; i < rows; i += TILE_ROWS) {
      float *corner = c + i * stride + j;
      const float *a = packedA + i * depth, *b = packedB + j * depth;
      if (rows - i >= TILE_ROWS && columns - j >= TILE_COLUMNS) tile(depth, a, b, corner, stride, accumulate);
      else
        edgeTile(depth, a, b, corner, stride, min(TILE_ROWS, rows - i), min(TILE_COLUMNS, columns - j), accumulate,
                 edge);
    }
}

/* Floats of scratch that gemm and everything built on it need. */
EXPORT int gemmScratchLength(void) {
  return TILE_ROWS * TILE_COLUMNS + DEPTH_BLOCK * (ROW_BLOCK + COLUMN_BLOCK);
}

/*
 * c [rows, columns] = scale x op(a) [rows, depth] x op(b) [depth, columns], added to c when `accumulate`. Strides are
 * floats between rows as stored (before op). c must not overlap a or b.
 */
EXPORT void gemm(float *c, int strideC, const float *a, int strideA, int transposeA, const float *b, int strideB,
                 int transposeB, int rows, int columns, int depth, float scale, int accumulate, float *scratch) {
  float *edge = scratch, *packedA = edge + TILE_ROWS * TILE_COLUMNS, *packedB = packedA + ROW_BLOCK * DEPTH_BLOCK;
  for (int j = 0; j < columns; j += COLUMN_BLOCK) {
    int blockColumns = min(COLUMN_BLOCK, columns - j);
    for (int k = 0; k < depth; k += DEPTH_BLOCK) {
      int blockDepth = min(DEPTH_BLOCK, depth - k);
      packColumns(packedB, transposeB ? b + j * strideB + k : b + k * strideB + j, strideB, transposeB, blockDepth,
                  blockColumns);
      for (int i = 0; i < rows; i += ROW_BLOCK) {
        int blockRows = min(ROW_BLOCK, rows - i);
        packRows(packedA, transposeA ? a + k * strideA + i : a + i * strideA + k, strideA, transposeA, blockRows,
                 blockDepth, scale);
        multiplyBlock(c + i * strideC + j, strideC, packedA, packedB, blockRows, blockColumns, blockDepth,
                      accumulate || k > 0, edge);
      }
    }
  }
}
