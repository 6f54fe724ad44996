/** What a liar does, each by itself; a liar has several. `liar.ts` has how. */
export const HABITS = [
  /** says nothing to some, and now and then nothing at all */
  'withholds',
  /** as a leader proposes one block to some and another to the rest, and votes for both */
  'equivocates',
  /** votes for and against everything that it hears of */
  'votes for all',
  /** says again what others and it said long ago */
  'replays',
  /** bytes that mean nothing, and messages with a bit turned */
  'babbles',
  /** messages and histories of which a piece is another, signed again: what a program would say that has gone wrong */
  'fuzzes',
  /** claims to be far ahead, and answers no question */
  'boasts',
  /** answers questions for its history, and for parts of payloads and states, very late */
  'dawdles',
  /** tells histories that are cut, changed or made up, and offers states that no history names */
  'falsifies',
  /** announces updates that nobody can fetch or decode, of sizes they have not, two in a round, or others' with another payload inside */
  'poisons',
  /**
   * proposes blocks on a state or a block of the past, with updates that their authors did not sign so, of a size not announced or
   * of more tokens than there can be, or with requests to come or go that nobody made
   */
  'looks back',
  /** goes on alone in unfinal rounds */
  'secedes',
  /** many joins, votes and certificates in invented names, for far heights and views */
  'floods',
] as const;

export type Habit = (typeof HABITS)[number];
