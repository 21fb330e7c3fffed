--- screens.lua: puts screens of `make demo HEADLESS=1` into README.md, between its two marks.
---
---   nvim --clean -l scripts/screens.lua README.md TITLE... <OUTPUT-OF-THE-DEMO

local ROWS = 14 -- of a screen; the demo happens at its top

local readme, wanted = _G.arg[1], vim.list_slice(_G.arg, 2)

---@param why string
local function fail(why)
  io.stderr:write('screens: ', why, '\n')
  os.exit(1)
end

local frames, title, rows = {}, nil, {}
for line in io.stdin:lines() do
  local t = line:match('^%+%-%- (.-) %-+%+$')
  if t then
    title, rows = t, {}
  elseif title and line:find('^%+%-+%+$') then
    frames[title], title = rows, nil
  elseif title and #rows < ROWS then
    local text = line:sub(3, -3):gsub('%s+$', ''):gsub('^~%f[%s%z]', ' ')
    rows[#rows + 1] = text
  end
end

local out = {}
for _, name in ipairs(wanted) do
  local frame = frames[name] or fail(('the demo has no screen %q'):format(name))
  while not frame[#frame]:find('%S') do
    table.remove(frame)
  end
  vim.list_extend(out, { '`' .. name .. '`', '', '```' })
  vim.list_extend(out, frame)
  vim.list_extend(out, { '```', '' })
end

local text = table.concat(vim.fn.readfile(readme), '\n') .. '\n'
local _, first = text:find('<!-- screens -->\n', 1, true)
local last = text:find('<!-- end of screens -->', 1, true)
if not first or not last then
  fail(readme .. ' has no place for screens')
end
local f = assert(io.open(readme, 'wb'))
f:write(text:sub(1, first), '\n', table.concat(out, '\n'), '\n', text:sub(last))
f:close()
