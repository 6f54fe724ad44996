import { CodedError } from '../protocol/errors.ts';

export type SimErrorCode =
  | 'E_SCENARIO' // a scenario that cannot be: the message names the field, the cause and the fix
  | 'E_STRATEGY' // a strategy that nobody knows or that cannot be
  | 'E_COMPARISON' // strategies, peers and tokens that do not go together
  | 'E_STUCK'; // nothing is left to happen, and the run is not over

export function scenarioError(message: string): CodedError<SimErrorCode> {
  return new CodedError('E_SCENARIO', message);
}

export function strategyError(message: string, cause?: unknown): CodedError<SimErrorCode> {
  return new CodedError('E_STRATEGY', message, { cause });
}

export function comparisonError(message: string): CodedError<SimErrorCode> {
  return new CodedError('E_COMPARISON', message);
}
