/** What can go wrong in training, as the `code` of a `CodedError`. */
export type TrainErrorCode =
  /** the backend asked for is missing, broken or cannot give what was asked; the message names the install line */
  | 'E_BACKEND'
  /** the model's shape cannot be computed */
  | 'E_MODEL'
  /** a batch whose lengths or token ids do not fit the model */
  | 'E_BATCH'
  /** the 4 GB heap of the wasm backend is full */
  | 'E_MEMORY'
  /** a split too short for one sequence */
  | 'E_DATA';
