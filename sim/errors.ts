import { CodedError } from '../protocol/errors.ts';

export type SimErrorCode =
  | 'E_SCENARIO' // a scenario that cannot be: the message names the field, the cause and the fix
  | 'E_STUCK'; // nothing is left to happen, and the run is not over

export function scenarioError(message: string): CodedError<SimErrorCode> {
  return new CodedError('E_SCENARIO', message);
}
