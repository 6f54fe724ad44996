/** A mistake that somebody could make: pieces of source, each there exactly once, and what stands in their place. */
export interface Bug {
  name: string;
  edits: { file: string; find: string; replace: string }[];
}

function bug(name: string, ...edits: [file: string, find: string, replace: string][]): Bug {
  return { name, edits: edits.map(([file, find, replace]) => ({ file, find, replace })) };
}

export const BUGS: readonly Bug[] = [
  bug('a vote said twice counts twice', [
    'protocol/agreement.ts',
    '    if (earlier) return false;\n',
    '    if (earlier && earlier.block !== vote.block) return false;\n',
  ]),
  bug(
    'a leader proposes anew after a notarization, and voters let it',
    [
      'protocol/agreement.ts',
      '    const locked = this.lockedBlock();\n    const block = locked?.block ?? fresh;\n',
      '    const locked = fresh ? undefined : this.lockedBlock();\n    const block = fresh ?? locked?.block;\n',
    ],
    ['protocol/agreement.ts', '      if (!this.#at(between).nullification) return false;\n', ''],
    [
      'protocol/closing.ts',
      '    const wait = locked !== undefined && agreement.view <= LOCKED_VIEWS_PATIENT;\n',
      '    const wait = LOCKED_VIEWS_PATIENT < 0;\n',
    ],
  ),
  bug('votes are forgotten at a restart', ['protocol/machine.ts', '    this.#signedAhead = record;\n', '']),
  bug('a view is finalized that was nullified', [
    'protocol/agreement.ts',
    "certificate.block && !state.mine.has('nullify') && !state.mine.has('finalize')",
    "certificate.block && !state.mine.has('finalize')",
  ]),
  bug('a quorum is one vote less', [
    'protocol/roster.ts',
    '  return voters - faultsTolerated(voters);\n',
    '  return Math.max(1, voters - faultsTolerated(voters) - 1);\n',
  ]),
  bug('a block on an old state is accepted', [
    'protocol/chain.ts',
    "  if (base !== undefined && block.base !== base) throw fault('it builds on another root');\n",
    '',
  ]),
  bug(
    'updates are listed by their payloads',
    [
      'protocol/round.ts',
      '    return places.map((place) => this.#updates[place]!);\n',
      '    return places.map((place) => this.#updates[place]!).sort((a, b) => (a.payload < b.payload ? -1 : 1));\n',
    ],
    [
      'protocol/chain.ts',
      "  if (!ascending(block.updates.map((update) => update.author))) throw fault('updates out of order or repeated');\n",
      '',
    ],
  ),
  bug('the signatures of updates in a block are not checked', [
    'protocol/chain.ts',
    "    if (!signedBy(signer, update.author, bytes, update.signature)) throw fault('an update not signed by its author');\n",
    '',
  ]),
  bug('who asked to leave is not looked at', [
    'protocol/chain.ts',
    "    if (!fresh || !signedBy(signer, leave.author, leaveBytes(run, leave), leave.signature)) throw fault('a void leave');\n",
    "    if (!fresh) throw fault('a void leave');\n",
  ]),
  bug('an update counts for as many tokens as it says', [
    'protocol/chain.ts',
    "    if (!isPossible(genesis, update)) throw fault('an update with more work in it than a round has');\n",
    '',
  ]),
  bug('own work is given up whenever a state is taken from others', [
    'protocol/own-updates.ts',
    '    const isUntold = this.open.some(({ id, round }) => round < begins && !told.has(id));\n',
    '    const isUntold = this.open.some(({ id }) => !told.has(id));\n',
  ]),
  bug('the residual is dropped at a restart', [
    'protocol/replica.ts',
    '    this.#residual = copyOf(residual);\n',
    '    this.#residual = { ...residual, values: new Float32Array(residual.values.length) };\n',
  ]),
  bug('an update that is in the round returns to the residual too', [
    'protocol/replica.ts',
    '    if (!included) addTo(this.#residual, this.#pending);\n    else if',
    '    addTo(this.#residual, this.#pending);\n    if (included) if',
  ]),
  bug('an update that misses its round is dropped', [
    'protocol/replica.ts',
    '    if (!included) addTo(this.#residual, this.#pending);\n    else if',
    '    if (!included) this.#pending = null;\n    else if',
  ]),
  bug('own work in unfinal rounds is not given back when they are undone', [
    'protocol/replica.ts',
    '    addTo(this.#residual, this.#unfinalOwn);\n    this.#pending',
    '    this.#pending',
  ]),
  bug('training that is overtaken is thrown away', [
    'sim/virtual-training.ts',
    '    world.kernel.whenReady(this.#busyUntilMs, world.host.abandon(index, steps), () => undefined);\n',
    '    void steps;\n',
  ]),
  bug('what is trained beyond an update counts from the agreed model, with what the update has in it', [
    'sim/seat.ts',
    '    return this.#replica.abandon(trained.local, trained.tokens, from);\n',
    '    return this.#replica.abandon(trained.local, trained.tokens);\n',
  ]),
  bug('votes leave before they are on the disk', [
    'sim/virtual-peer.ts',
    '          return this.#later(diskMs, () => {\n            this.#writing.delete(write);\n            write();\n            this.#whenItGoesOn(() => this.#drain());\n          });\n',
    '          next = -1;\n          this.#later(diskMs, () => {\n            this.#writing.delete(write);\n            write();\n          });\n          continue;\n',
  ]),
  bug('a snapshot is taken that no history names', [
    'protocol/sync.ts',
    'if (start === undefined || baseAfter(fork, start) !== root) continue;',
    'if (start === undefined) continue;',
  ]),
  bug('an old request to come or go takes effect again', [
    'protocol/chain.ts',
    '  return height <= next && height + REQUEST_AGE_MAX >= next && height > (head.changes.get(author) ?? 0);\n',
    '  return height <= next && height + REQUEST_AGE_MAX >= next && author.length > 0;\n',
  ]),
  bug('what a member is evicted for is not looked at', [
    'protocol/chain.ts',
    "    if (!fresh || !evidenceHolds(signer, run, evidence)) throw fault('a void eviction');\n",
    "    if (!fresh || evidence.votes.length === 0) throw fault('a void eviction');\n",
  ]),
  bug('more unfinal tokens win over more certified blocks', [
    'protocol/history.ts',
    '  if (a.height !== b.height) return b.height - a.height;\n  if (a.unfinalTokens !== b.unfinalTokens) return b.unfinalTokens - a.unfinalTokens;\n',
    '  if (a.unfinalTokens !== b.unfinalTokens) return b.unfinalTokens - a.unfinalTokens;\n  if (a.height !== b.height) return b.height - a.height;\n',
  ]),
  bug('who endorses is not looked at', [
    'protocol/unfinal.ts',
    ' || !isMember(head, vote.author)) return;\n',
    ') return;\n',
  ]),
  bug('states that all may have to come back to are thrown away', [
    'protocol/core.ts',
    'const after = statesKept(before, { block, state }, (each) => kept.has(each.block));',
    'const after = statesKept(before, { block, state }, () => false);',
  ]),
  bug('nobody comes back from a branch that nobody follows', [
    'protocol/machine.ts',
    '      this.#commit();\n      this.#retreat();\n',
    '      this.#commit();\n',
  ]),
  bug('a history that begins in its middle is believed whoever signed it', [
    'protocol/anchors.ts',
    '  return core.filter((peer) => signers.has(peer)).length > largest / 2;\n',
    '  return signers.size > 0 && core.length <= largest;\n',
  ]),
  bug('what a block says that it follows is not looked at', [
    'protocol/chain.ts',
    "  if (block.head !== headHash(head)) throw fault('it has another account of what came before');\n",
    '',
  ]),
  bug('an anchor is left out that somebody needs who was away', [
    'protocol/history.ts',
    'summary(this.#committees(since, position), before.passed)',
    'summary(this.#committees(since, position))',
  ]),
  bug('a block to trust that is forgotten is waited for after a restart', [
    'protocol/core.ts',
    ' || segments.some(({ pinned }) => pinned === block)',
    '',
  ]),
  bug('own work of which a history cannot tell is given back', [
    'protocol/own-updates.ts',
    'round < begins && !told.has(id)',
    'round < 0 && !told.has(id)',
  ]),
  bug(
    'nobody is told that its update came too late',
    ['protocol/summary.ts', "isLate ? 'late' : 'none'", "isLate ? 'none' : 'none'"],
    ['protocol/receipts.ts', "    if (own === 'none') this.#miss(round);\n", ''],
  ),
  bug('what is in a round that is then overruled counts as accepted', [
    'protocol/receipts.ts',
    '    if (!final) return;\n',
    '',
  ]),
  bug('a payload is taken for the one that was announced, whatever its size', [
    'protocol/round.ts',
    '  return a.payload === b.payload && a.size === b.size;\n',
    '  return a.payload === b.payload;\n',
  ]),
  bug('a receipt says of late work that it is in before it is', [
    'protocol/receipts.ts',
    '    const news = [...carries, { round, payload }].filter(',
    '    const news = [...carries, ...this.#owed, { round, payload }].filter(',
  ]),
  bug('work that is given back weighs nothing', ['protocol/replica.ts', '  target.tokens += work.tokens;\n', '']),
  bug('fewer vote than genesis says', ['protocol/chain.ts', '.slice(0, kind.size)', '.slice(0, 1)']),
  bug('who misses a round is put out', [
    'protocol/roster.ts',
    'block.round - lastRound > LIMITS.evictAfterRounds',
    'block.round - lastRound > 1',
  ]),
  bug('training that is overtaken is not taken on the books', [
    'protocol/replica.ts',
    '    if (!allFinite(next)) return false;\n    this.#takeResidual(',
    '    if (next.length > 0) return false;\n    this.#takeResidual(',
  ]),
  bug('what others tell is believed whoever signed it', [
    'protocol/chain.ts',
    '  if (!certificateHolds(context.signer, context.run, committee, certificate)) {\n',
    "  if (context.run === '') {\n",
  ]),
  bug('payloads of a block under vote are dropped at a restart', [
    'protocol/kept-updates.ts',
    '[...recent, ...undecided].flatMap',
    'recent.flatMap',
  ]),
  bug('a block is voted for before all that it names is here', [
    'protocol/closing.ts',
    "    if (this.#payloads.require(proposal.block, () => [proposal.author]) !== 'held') return;\n",
    "    if (this.#payloads.require(proposal.block, () => [proposal.author]) === 'refused') return;\n",
  ]),
  bug('where no quorum is left nobody goes on', [
    'protocol/closing.ts',
    '    return !this.#isShort;\n',
    '    return false;\n',
  ]),
  bug('who is no member is not told that it is as far as the members', [
    'protocol/sync.ts',
    '    if (isMember(branch.head, self) && !isMember(branch.head, peer)) this.#tell(peer);\n',
    '',
  ]),
  bug('payloads that others may have to go on from are dropped after their time', [
    'protocol/core.ts',
    '      ].flatMap(({ updates }) => updates),\n',
    '      ].flatMap(() => []),\n',
  ]),
  bug('a training whose update cannot be made is lost', [
    'protocol/replica.ts',
    "    if (!allFinite(next)) throw notFinite('training diverged, or its change overflows float32; nothing is sent');\n",
    "    if (!allFinite(next) || this.#residual.tokens > 2 * this.#roundTokens) throw notFinite('nothing is sent');\n",
  ]),
];
