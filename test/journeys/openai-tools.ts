// The tools of the journeys as the `openai` client takes them, and a schema for what is said.
import { TOOLS } from './sdk-clients.ts';

export const FUNCTIONS = TOOLS.map(({ name, description, schema: parameters }) => ({
  type: 'function' as const,
  function: { name, description, parameters },
}));

interface Input {
  city: string;
  days: number;
}

/** Tools that the client itself runs. */
export const runnable = (ran: (name: string, input: Input) => unknown) =>
  FUNCTIONS.map(({ type, function: { name, description, parameters } }) => ({
    type,
    function: {
      name,
      description,
      parameters,
      parse: (text: string) => JSON.parse(text) as Input,
      function: (input: Input) => {
        ran(name, input);
        return 'All is well.';
      },
    },
  }));

export const PLACE = {
  type: 'json_schema' as const,
  json_schema: { name: 'place', strict: true, schema: TOOLS[0]!.schema },
};
