import type { Strategy } from '../sim/strategy.ts';

/**
 * A strategy of one's own. Run it with
 *
 *   outerloop compare --strategy-file docs/strategy-example.ts --strategies diloco,patient --peers 4 --tokens 1M --out out
 *
 * DiLoCo with an outer learning rate and momentum that trust each round less, 8-bit updates, and an inner learning rate
 * that falls all the way to zero.
 */
const patient: Strategy = {
  name: 'patient',
  about: 'int8, Nesterov 0.5 / 0.8, inner rate down to zero',
  codec: { name: 'int8' },
  outer: { name: 'nesterov', learningRate: 0.5, momentum: 0.8 },
  inner: (inner) => ({ ...inner, learningRateMin: 0 }),
};

export default patient;
