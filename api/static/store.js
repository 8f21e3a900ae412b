// What is remembered in the browser. Private windows may bar storage: then nothing is remembered, nothing breaks.

function read(storage, name) {
  try {
    return JSON.parse(storage().getItem(`inkwell.${name}`));
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) storage().removeItem(`inkwell.${name}`);
    else storage().setItem(`inkwell.${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

const local = () => localStorage;
const tab = () => sessionStorage;

export const remembered = (name) => read(local, name);
export const remember = (name, value) => write(local, name, value);
export const apiKey = () => read(tab, "key") ?? "";
export const useApiKey = (key) => write(tab, "key", key || null);
