--- errors.lua: errors that are made in Lua, with the codes that the library has for their names.
---
--- The codes are those of csrc/api/gemma.h by way of cdef.lua, so they are known before the library
--- is there, and where it never will be: in a Neovim that borrows its model.

local M = {}

--- Codes by name, such as code.EINVAL.
---@type table<string, integer>
M.code = require('gemma.cdef').errors

local names = {} ---@type table<integer, string>
for name, code in pairs(M.code) do
  names[code] = name
end

---@param code integer
---@return string name such as 'EINVAL'
function M.name(code)
  return names[code] or 'EINTERNAL'
end

---@param name string such as 'EINVAL'
---@param text string one line
---@return gemma.Error
function M.new(name, text)
  return { code = assert(M.code[name], name), name = name, text = text }
end

return M
